"""A language model that is trained by its own answers, and the reference that it started as.

A policy is a folder of `assay/language_models/checkpoint.py`: an adapter is trained further, a whole model whole. The
reference has the same frozen weights, so what is kept of it is the values that the trainable parameters started with:
for an adapter that is next to nothing, and it works for every kind of adapter alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from assay.language_models.checkpoint import CausalLM, load_causal_lm


@dataclass(frozen=True)
class Policy:
    """A model to train, its parameters that are trained, and their values in the reference.

    It is trained in evaluation mode: dropout would make the policy that is trained another one than the policy that
    answered. The tokenizer pads on the left.
    """

    model: CausalLM
    tokenizer: PreTrainedTokenizerBase
    trainable: list[nn.Parameter]
    reference: list[torch.Tensor]


class ValueHead(nn.Module):
    """A linear layer that says what reward is to be expected in a state (Ziegler et al. 2019, section 2).

    It sees the policy's last hidden state, brought to mean 0 and variance 1 over its dimensions, so that one learning
    rate does for models of any scale, and sends no gradient back: the policy's weights follow its own objective alone.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimensions, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Values of shape `(b, t)`, of states of shape `(b, t, h)`."""
        states = nn.functional.layer_norm(states.detach().float(), states.shape[-1:])
        values: torch.Tensor = self.linear(states).squeeze(-1)
        return values


def load_policy(folder: Path, device: torch.device) -> Policy:
    """The model of a folder, ready to be trained; an `InputError` if there is none, or its base is gone."""
    model, tokenizer = load_causal_lm(folder, device, trainable=True)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Policy(model, tokenizer, trainable, copy_values(trainable))


def copy_values(parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """The values that parameters have now."""
    return [parameter.detach().clone() for parameter in parameters]


def has_moved(policy: Policy) -> bool:
    """Whether a policy is another model than its reference."""
    return not all(torch.equal(one, other) for one, other in zip(policy.trainable, policy.reference, strict=True))


@contextmanager
def as_reference(policy: Policy) -> Iterator[None]:
    """Inside the block the model is the reference; take no gradients there.

    Tensors change places, and nothing is copied.
    """
    present = [parameter.data for parameter in policy.trainable]
    for parameter, value in zip(policy.trainable, policy.reference, strict=True):
        parameter.data = value
    try:
        yield
    finally:
        for parameter, value in zip(policy.trainable, present, strict=True):
            parameter.data = value
