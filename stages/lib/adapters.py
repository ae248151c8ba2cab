"""The ways to fine-tune: each turns a freshly loaded classifier into one whose trainable parameters are the approach's.

The caller seeds PyTorch before it loads the classifier, since the head and the adapters start from random values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel

if TYPE_CHECKING:
    import peft


def head_of(model: PreTrainedModel) -> tuple[str, nn.Module]:
    """Name and module of the classification head: the last child of a `…ForSequenceClassification` model."""
    *_, head = model.named_children()
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
    model: PreTrainedModel, rank: int, alpha: int, dropout: float, target_modules: str | list[str]
) -> peft.PeftModel:
    """LoRA (Hu et al. 2021): W + (alpha / rank) B A with B, A of `rank`; the head is trained too and saved beside it.

    Args:
        model: the classifier.
        rank: inner dimension of the update.
        alpha: numerator of its scale.
        dropout: share of the adapter's inputs that is dropped in training.
        target_modules: `all-linear`, or names of the linear layers to adapt.
    """
    # Imported here: it takes seconds, and the other approaches do without.
    import peft

    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules,
    )
    adapted = peft.get_peft_model(model, config)
    # A set by now, whose order in the saved file would follow PYTHONHASHSEED.
    config.target_modules = sorted(config.target_modules or [])
    return adapted
