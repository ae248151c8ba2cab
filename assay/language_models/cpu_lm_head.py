"""Logits of answers alone, for TRL's trainers on a processor.

Of a chat that shows passages, one token in five has a loss. TRL's fused head leaves the others out where Triton runs,
and scores every position elsewhere, since some accelerators compile anew for each number of rows. A processor does not.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

import torch

from assay.language_models.chat_template import IGNORED
from assay.language_models.checkpoint import CausalLM


def score_answers_alone(model: CausalLM) -> None:
    """Let the fused head that a trainer of TRL's has put on a model see only the positions whose next token has a loss.

    Losses and gradients stay the same, as the others count nothing. Where no token has one, nothing is left out.

    Args:
        model: after `trl.trainer.add_fused_lm_head`, with or without an adapter of peft.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    fused_forward = inner.forward

    # `generate` reads the arguments of the method that is wrapped.
    @functools.wraps(fused_forward)
    def forward(
        self: Any, *args: Any, labels: torch.Tensor | None = None, fused_lm_head: bool = False, **rest: Any
    ) -> Any:
        asked = None if labels is None or not fused_lm_head else labels[:, 1:] != IGNORED
        if labels is None or asked is None or not asked.any():
            labelled = {} if labels is None else {"labels": labels}
            return fused_forward(*args, fused_lm_head=fused_lm_head, **labelled, **rest)

        def keep_asked(module: Any, inputs: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[:, :-1][asked][None]
            return output

        hook = self.base_model.register_forward_hook(keep_asked)
        try:
            # `shift_labels` are taken as they are; `labels` would be moved by one.
            output = fused_forward(*args, fused_lm_head=True, shift_labels=labels[:, 1:][asked][None], **rest)
        finally:
            hook.remove()
        found = (1, int(asked.sum()))
        for name, value in list(output.items()):
            if value.shape == found:
                output[name] = value.new_zeros(asked.shape).masked_scatter(asked, value)
        return output

    inner.forward = MethodType(forward, inner)
