"""Attention inside each chat of a pack, for a processor.

Chats that share a row do not see each other. With a mask a processor still multiplies every token of the row with every
other, and then hides most of it; here each chat is attended to by itself, as FlashAttention does on a GPU by its
cumulative sequence lengths (Dao 2023, https://arxiv.org/abs/2307.08691).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_within_chats"


def attend_within_chats(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    position_ids: torch.Tensor | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """PyTorch's attention, chat by chat where the batch is one row of several whose positions begin anew with each.

    Legend: `b` rows, `h` heads, `n` tokens, `d` dimensions of a head.

    Args:
        module: the layer.
        query: shape `(b, h, n, d)`.
        key: shape `(b, heads of keys, n, d)`.
        value: likewise.
        attention_mask: of the whole row; not read where chats are attended to one by one.
        position_ids: shape `(b, n)`; None: the model does not say.
        rest: what else transformers passes to an attention.

    Returns:
        Shape `(b, n, h, d)`, and no weights.
    """
    ends: list[int] = []
    if position_ids is not None and position_ids.shape == (1, query.shape[2]) and key.shape[2] == query.shape[2]:
        ends = [*(position_ids[0] == 0).nonzero()[1:, 0].tolist(), query.shape[2]]
    if len(ends) < 2:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return attended, None
    parts = [
        sdpa_attention_forward(
            module, query[:, :, start:end], key[:, :, start:end], value[:, :, start:end], None, **rest
        )[0]
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    return torch.cat(parts, dim=1), None


def attends_to_all(config: Any) -> bool:
    """Whether every layer of a model attends to all earlier tokens, by PyTorch's own function."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    is_own = config._attn_implementation == "sdpa"
    return is_own and kinds == {"full_attention"} and not getattr(config, "sliding_window", None)


@contextmanager
def attention_within_chats(model: Any) -> Iterator[None]:
    """Inside the block a model that attends by PyTorch's own function to all earlier tokens does it chat by chat.

    Args:
        model: of transformers, with or without an adapter of peft.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not attends_to_all(inner.config):
        yield
        return
    AttentionInterface.register(NAME, attend_within_chats)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    inner.set_attn_implementation(NAME)
    try:
        yield
    finally:
        inner.set_attn_implementation("sdpa")
