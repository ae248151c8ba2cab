"""The ways to fine-tune: each turns a freshly loaded model into one whose trainable parameters are the approach's.

The caller seeds PyTorch before it loads the model, since the head of a classifier and the adapters start from random
values. That head is trained with every approach, and saved with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

if TYPE_CHECKING:
    import peft

Task = Literal["SEQ_CLS", "CAUSAL_LM"]
"""What a model is for, as peft calls it: to classify sequences, or to go on with them."""

PREFIX_SCALE = 0.02
"""Standard deviation of a prefix's first keys and values, that of the weights of a transformer: peft draws them with 1,
and the first steps go into undoing that."""


def head_of(model: PreTrainedModel | peft.PeftModel) -> tuple[str, nn.Module]:
    """Name and module of the classification head: the last child of a `…ForSequenceClassification` model."""
    base = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    *_, head = base.named_children()
    return head


def full(model: PreTrainedModel) -> PreTrainedModel:
    """Full fine-tuning: every parameter is trained."""
    return model


def linear_probe(model: PreTrainedModel) -> PreTrainedModel:
    """Linear probe: the encoder is frozen, the head is trained."""
    model.requires_grad_(False)
    head_of(model)[1].requires_grad_(True)
    return model


def lora(
    model: PreTrainedModel,
    task: Task,
    rank: int,
    alpha: int,
    dropout: float,
    target_modules: str | list[str],
    *,
    rank_stabilised: bool = False,
    dora: bool = False,
    initialisation: Literal["default", "pissa"] = "default",
) -> peft.PeftModel:
    """LoRA (Hu et al. 2021): W + (alpha / rank) B A with B, A of `rank`.

    On a model whose weights are in 4 bits it is QLoRA (Dettmers et al. 2023).

    Args:
        rank: inner dimension of the update.
        alpha: numerator of its scale.
        dropout: share of the adapter's inputs that is dropped in training.
        target_modules: `all-linear`, or names of the linear layers to adapt.
        rank_stabilised: the scale is alpha / √rank (rsLoRA; Kalajdzievski 2023).
        dora: direction and length of the weights are trained apart (DoRA; Liu et al. 2024).
        initialisation: `pissa` starts from the largest singular values of W (Meng et al. 2024); the base weights are
            then those without them, and are saved as a difference to the original ones.
    """
    # Imported here: it takes seconds, and the other approaches do without.
    import peft

    config = peft.LoraConfig(
        task_type=task,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules,
        use_rslora=rank_stabilised,
        use_dora=dora,
        init_lora_weights="pissa" if initialisation == "pissa" else True,
    )
    return _adapted(model, config)


def ia3(
    model: PreTrainedModel, task: Task, target_modules: list[str] | None, feedforward_modules: list[str] | None
) -> peft.PeftModel:
    """IA3 (Liu et al. 2022): keys, values and feed-forward activations are each scaled by a learnt vector.

    Args:
        target_modules: names of the layers to scale; None: those of the paper, where peft knows the architecture.
        feedforward_modules: those of them whose input is scaled, and not their output.
    """
    import peft

    config = peft.IA3Config(task_type=task, target_modules=target_modules, feedforward_modules=feedforward_modules)
    adapted = _adapted(model, config)
    config.feedforward_modules = sorted(config.feedforward_modules or [])
    return adapted


def prompt_tuning(
    model: PreTrainedModel, task: Task, num_virtual_tokens: int, initialisation: Literal["random", "words"]
) -> peft.PeftModel:
    """Prompt tuning (Lester et al. 2021): learnt vectors stand before the embeddings of the tokens.

    Args:
        initialisation: `words`: the embeddings of tokens drawn from the vocabulary (section 3.2 of the paper).
    """
    import peft

    config = peft.PromptTuningConfig(
        task_type=task,
        num_virtual_tokens=num_virtual_tokens,
        prompt_tuning_init=peft.PromptTuningInit.SAMPLE_VOCAB if initialisation == "words" else "RANDOM",
    )
    return _adapted(model, config)


def prefix_tuning(
    model: PreTrainedModel, task: Task, num_virtual_tokens: int, projection_width: int | None
) -> peft.PeftModel:
    """Prefix tuning (Li & Liang 2021), at every layer and with a head, as in P-tuning v2 (Liu et al. 2022).

    Args:
        model: an encoder or a decoder.
        num_virtual_tokens: keys and values before those of the tokens, in every layer.
        projection_width: of the hidden layer through which they are learnt; None: they are learnt themselves.
    """
    import peft

    config = peft.PrefixTuningConfig(
        task_type=task,
        num_virtual_tokens=num_virtual_tokens,
        prefix_projection=projection_width is not None,
        encoder_hidden_size=projection_width or 0,
    )
    adapted = _adapted(model, config)
    if projection_width is None:
        for name, parameter in adapted.named_parameters():
            if "prompt_encoder" in name:
                with torch.no_grad():
                    parameter.mul_(PREFIX_SCALE)
    return adapted


def _adapted(model: PreTrainedModel, config: peft.PeftConfig) -> peft.PeftModel:
    """The model with the adapter, whose saved form does not depend on `PYTHONHASHSEED`."""
    import peft

    adapted = peft.get_peft_model(model, config)
    # A set by now, whose order in the saved file would follow the hash seed.
    if isinstance(config, peft.LoraConfig | peft.IA3Config):
        config.target_modules = sorted(config.target_modules or [])
    return adapted
