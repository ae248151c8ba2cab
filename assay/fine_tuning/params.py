"""The params of an approach: one class for each `method`, so that a `rank` on a linear probe is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from assay.core.errors import InputError
from assay.core.params import Params
from assay.fine_tuning import adapters

if TYPE_CHECKING:
    import peft
    from transformers import PreTrainedModel


class Majority(Params):
    """The most frequent label, always."""

    method: Literal["majority"]


class Tfidf(Params):
    """TF-IDF and logistic regression.

    Attributes:
        max_word_ngram: longest n-gram, in words.
        min_document_frequency: an n-gram in fewer texts than this does not count.
        C: inverse strength of the L2 penalty.
    """

    method: Literal["tfidf"]
    max_word_ngram: int = Field(ge=1, le=5)
    min_document_frequency: int = Field(ge=1)
    C: float = Field(gt=0)


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice, and would give the same model twice")
    return seeds


class Optimization(Params):
    """How the training loop of classifiers optimizes.

    Attributes:
        max_epochs: passes over the train rows at most; the learning rate decays over all of them.
        patience_epochs: training stops after this many epochs without a better validation macro-F1, and the best epoch
            is kept; None: the last one is, since among many epochs a small validation split chooses by chance.
        batch_size: rows of an optimizer step.
        gradient_accumulation_steps: parts in which a batch is computed, to save memory; more where memory runs out.
        learning_rate: peak of the schedule.
        head_learning_rate: of the classification head; None: as all the rest.
        weight_decay: decoupled decay of matrices.
        warmup_fraction: share of all steps in which the learning rate rises.
        max_grad_norm: gradients are scaled down to this global norm.
        label_smoothing: share of the target that is spread over all classes.
    """

    max_epochs: int = Field(ge=1, le=1000)
    patience_epochs: int | None = Field(ge=1)
    batch_size: int = Field(ge=1, le=65536)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    learning_rate: float = Field(gt=0, le=1)
    head_learning_rate: float | None = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_fraction: float = Field(ge=0, lt=1)
    max_grad_norm: float = Field(gt=0)
    label_smoothing: float = Field(ge=0, lt=1)


class Training(Optimization):
    """What every fine-tuned approach needs."""

    model: str
    pooling: Literal["cls", "mean", "last"]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_distinct)]
    max_length_tokens: int = Field(ge=4, le=131072)
    class_weights: Literal["none", "balanced"]
    gradient_checkpointing: bool
    compile: bool


class LinearProbe(Training):
    """A linear head on the frozen encoder."""

    method: Literal["linear_probe"]


class LowRankAdapter(Params):
    """What LoRA and QLoRA share."""

    rank: int = Field(ge=1, le=1024)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]
    rank_stabilised: bool
    dora: bool


class LoraAdapter(LowRankAdapter):
    """Low-rank adapters."""

    method: Literal["lora"]
    initialisation: Literal["default", "pissa"]


class QloraAdapter(LowRankAdapter):
    """Low-rank adapters on a base in 4 bits (NF4)."""

    method: Literal["qlora"]
    double_quantisation: bool


class LearntPrompt(Params):
    """Vectors before the embeddings of the tokens."""

    method: Literal["prompt_tuning"]
    num_virtual_tokens: int = Field(ge=1, le=1024)
    initialisation: Literal["random", "words"]


class LearntPrefix(Params):
    """Keys and values before those of the tokens, in every layer."""

    method: Literal["prefix_tuning"]
    num_virtual_tokens: int = Field(ge=1, le=1024)
    projection_width: int | None = Field(ge=1)


class Ia3Adapter(Params):
    """Vectors that scale keys, values and feed-forward activations."""

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


FineTuned = LinearProbe | Lora | Qlora | PromptTuning | PrefixTuning | Ia3 | Full
Approach = Annotated[Majority | Tfidf | FineTuned, Field(discriminator="method")]


Adapter = LoraAdapter | QloraAdapter | LearntPrompt | LearntPrefix | Ia3Adapter | WholeModel


def adapted(
    params: LinearProbe | Adapter, model: PreTrainedModel, task: adapters.Task
) -> PreTrainedModel | peft.PeftModel:
    """The model with the trainable parameters of the approach.

    Raises:
        InputError: peft cannot do it to this model.
    """
    try:
        match params:
            case LinearProbe():
                return adapters.linear_probe(model)
            case LoraAdapter() | QloraAdapter():
                return adapters.lora(
                    model,
                    task,
                    params.rank,
                    params.alpha,
                    params.dropout,
                    params.target_modules,
                    rank_stabilised=params.rank_stabilised,
                    dora=params.dora,
                    # Weights in 4 bits cannot be decomposed anew.
                    initialisation=params.initialisation if isinstance(params, LoraAdapter) else "default",
                )
            case LearntPrompt():
                return adapters.prompt_tuning(model, task, params.num_virtual_tokens, params.initialisation)
            case LearntPrefix():
                return adapters.prefix_tuning(model, task, params.num_virtual_tokens, params.projection_width)
            case Ia3Adapter():
                return adapters.ia3(model, task, params.target_modules, params.feedforward_modules)
            case WholeModel():
                return adapters.full(model)
    except ValueError as error:
        where = model.config.name_or_path
        raise InputError(f"params.yaml: `method: {params.method}` does not go with {where}: {error}") from error
