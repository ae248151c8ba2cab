"""The params of an approach: one class for each `method`, so that a `rank` on a linear probe is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from assay.core.errors import InputError
from assay.core.params import Params
from assay.core.prompt_template import places_exactly

if TYPE_CHECKING:
    import peft
    from transformers import PreTrainedModel

    from assay.fine_tuning.adapters import Task


Pooling = Literal["cls", "mean", "last"]


class Majority(Params):
    """The most frequent label, always."""

    method: Literal["majority"]


class Tfidf(Params):
    """TF-IDF and logistic regression; an n-gram in fewer than `min_document_frequency` texts does not count."""

    method: Literal["tfidf"]
    max_word_ngram: int = Field(ge=1, le=5)
    min_document_frequency: int = Field(ge=1)
    C: float = Field(gt=0)


class Knn(Params):
    """The vote of the most similar train rows, by embeddings of the frozen encoder; `neighbours` of them vote."""

    method: Literal["knn"]
    model: str
    max_length_tokens: int = Field(ge=4, le=131072)
    batch_size: int = Field(ge=1, le=65536)
    neighbours: int = Field(ge=1, le=1000)


class Prompted(Params):
    """A language model that is asked for the label; `content_free` texts say nothing and show what it prefers."""

    method: Literal["prompted"]
    model: str
    batch_size: int = Field(ge=1, le=65536)
    prompt: Annotated[str, AfterValidator(places_exactly("labels", "text"))]
    content_free: list[str] = Field(min_length=1)


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice, and would give the same model twice")
    return seeds


class OptimizerSteps(Params):
    """What the steps of an optimizer are like.

    Attributes:
        batch_size: rows of a step.
        learning_rate: peak of the schedule.
        weight_decay: decoupled decay of matrices.
        warmup_fraction: share of all steps in which the learning rate rises.
        max_grad_norm: gradients are scaled down to this global norm.
    """

    batch_size: int = Field(ge=1, le=65536)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_fraction: float = Field(ge=0, lt=1)
    max_grad_norm: float = Field(gt=0)


class Optimization(OptimizerSteps):
    """How the training loop of classifiers optimizes.

    Attributes:
        max_epochs: passes over the train rows at most; the learning rate decays over all of them.
        patience_epochs: training stops after this many epochs without a better validation macro-F1, and the best epoch
            is kept; None: the last one is, since among many epochs a small validation split chooses by chance.
        gradient_accumulation_steps: parts in which a batch is computed, to save memory; more where memory runs out.
        head_learning_rate: of the classification head; None: as all the rest.
        label_smoothing: share of the target that is spread over all classes.
    """

    max_epochs: int = Field(ge=1, le=1000)
    patience_epochs: int | None = Field(ge=1)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    head_learning_rate: float | None = Field(gt=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)


class Training(Optimization):
    """What every fine-tuned approach needs."""

    model: str
    pooling: Pooling
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_distinct)]
    max_length_tokens: int = Field(ge=4, le=131072)
    class_weights: Literal["none", "balanced"]
    gradient_checkpointing: bool
    compile: bool


class LinearProbe(Training):
    """A linear head on the frozen encoder."""

    method: Literal["linear_probe"]


class LowRankAdapter(Params):
    """What LoRA and QLoRA share.

    Attributes:
        rank: inner dimension of the update.
        alpha: numerator of its scale.
        dropout: share of the adapter's inputs that is dropped in training.
        target_modules: `all-linear`, or names of the linear layers to adapt.
        rank_stabilised: the scale is alpha / √rank (rsLoRA; Kalajdzievski 2023).
        dora: direction and length of the weights are trained apart (DoRA; Liu et al. 2024).
    """

    rank: int = Field(ge=1, le=1024)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]
    rank_stabilised: bool
    dora: bool


class LoraAdapter(LowRankAdapter):
    """Low-rank adapters.

    `initialisation: pissa` starts from the largest singular values of W (Meng et al. 2024); the base weights are then
    those without them, and are saved as a difference to the original ones.
    """

    method: Literal["lora"]
    initialisation: Literal["default", "pissa"]


class QloraAdapter(LowRankAdapter):
    """Low-rank adapters on a base in 4 bits (NF4)."""

    method: Literal["qlora"]
    double_quantisation: bool


class LearntPrompt(Params):
    """Vectors before the embeddings of the tokens; `words` start as those of tokens drawn from the vocabulary."""

    method: Literal["prompt_tuning"]
    num_virtual_tokens: int = Field(ge=1, le=1024)
    initialisation: Literal["random", "words"]


class LearntPrefix(Params):
    """Keys and values before those of the tokens, in every layer.

    They are learnt through a hidden layer of `projection_width`; None: they are learnt themselves.
    """

    method: Literal["prefix_tuning"]
    num_virtual_tokens: int = Field(ge=1, le=1024)
    projection_width: int | None = Field(ge=1)


class Ia3Adapter(Params):
    """Vectors that scale keys, values and feed-forward activations.

    Attributes:
        target_modules: names of the layers to scale; None: those of the paper, where peft knows the architecture.
        feedforward_modules: those of them whose input is scaled, and not their output.
    """

    method: Literal["ia3"]
    target_modules: list[str] | None
    feedforward_modules: list[str] | None


class WholeModel(Params):
    """Every parameter."""

    method: Literal["full"]


class Lora(Training, LoraAdapter):
    """LoRA of a classifier."""


class Qlora(Training, QloraAdapter):
    """QLoRA of a classifier."""


class PromptTuning(Training, LearntPrompt):
    """Prompt tuning of a classifier."""


class PrefixTuning(Training, LearntPrefix):
    """Prefix tuning of a classifier."""


class Ia3(Training, Ia3Adapter):
    """IA3 of a classifier."""


class Full(Training, WholeModel):
    """Full fine-tuning of a classifier."""


WithoutPyTorch = Majority | Tfidf
Baseline = WithoutPyTorch | Knn | Prompted
BASELINES: dict[str, type[Params]] = {"majority": Majority, "tfidf": Tfidf, "knn": Knn, "prompted": Prompted}
"""What a fine-tuned model has to beat, by `method`."""
FineTuned = LinearProbe | Lora | Qlora | PromptTuning | PrefixTuning | Ia3 | Full
Approach = Annotated[Baseline | FineTuned, Field(discriminator="method")]
Adapter = LoraAdapter | QloraAdapter | LearntPrompt | LearntPrefix | Ia3Adapter | WholeModel


def adapted(params: LinearProbe | Adapter, model: PreTrainedModel, task: Task) -> PreTrainedModel | peft.PeftModel:
    """The model with the trainable parameters of the approach; an `InputError` if peft cannot do it to this model."""
    # Imported here: baselines have params too, and need no PyTorch.
    from assay.fine_tuning import adapters

    try:
        match params:
            case LinearProbe():
                return adapters.linear_probe(model)
            case LoraAdapter() | QloraAdapter():
                # Weights in 4 bits cannot be decomposed anew.
                initialisation = params.initialisation if isinstance(params, LoraAdapter) else "default"
                return adapters.lora(model, task, params, initialisation)
            case LearntPrompt():
                return adapters.prompt_tuning(model, task, params)
            case LearntPrefix():
                return adapters.prefix_tuning(model, task, params)
            case Ia3Adapter():
                return adapters.ia3(model, task, params)
            case WholeModel():
                return model
    except ValueError as error:
        where = model.config.name_or_path
        raise InputError(f"params.yaml: `method: {params.method}` does not go with {where}: {error}") from error
