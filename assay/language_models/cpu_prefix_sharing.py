"""Pairs whose prompt goes through a model once: for TRL's trainers of preferences on a processor.

Both sides of a pair begin with the same tokens: the prompt, and what the answers have in common before they differ. A
causal model says the same of them on both sides, so a pair becomes one row here, `[beginning, rest of the better side,
rest of the worse side]`, in which the rests do not see each other and take up the positions they had. What comes out is
put back in the places of both sides, so losses and gradients stay the same and no trainer notices. Prefix sharing:
Wang & Hegde 2024, https://arxiv.org/abs/2410.20305.

Legend: `p` pairs, `t` tokens of the longest side, `j` of the longest row of joined sides.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from assay.language_models.cpu_packing import attends_to_all

MAX_SHARE_OF_TOKENS = 0.85
"""Joined rows of more tokens than this share of the two sides' are not worth their mask."""


class JoinedPairs(NamedTuple):
    """`p` pairs as one row each.

    Attributes:
        input_ids: shape `(p, j)`.
        position_ids: that a token has on its own side, shape `(p, j)`.
        attention_mask: which token (row) sees which (column), shape `(p, 1, j, j)`.
        places: where in its pair's row each token of a side is, 0 for padding, shape `(2 p, t)`.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    places: torch.Tensor


def joined_pairs(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> JoinedPairs:
    """Each row of the first half joined with its counterpart of the second.

    Args:
        input_ids: better sides, then the worse ones in the same order, filled up on the right, shape `(2 p, t)`.
        attention_mask: 1 where tokens are, shape `(2 p, t)`.
    """
    better, worse = input_ids.chunk(2)
    better_length, worse_length = attention_mask.sum(dim=1).chunk(2)
    both = (attention_mask[: len(better)] * attention_mask[len(better) :]).bool()
    shared = ((better == worse) & both).long().cumprod(dim=1).sum(dim=1)

    rows, positions = [], []
    for pair, (first, second, alike) in enumerate(
        zip(better_length.tolist(), worse_length.tolist(), shared.tolist(), strict=True)
    ):
        rows.append(torch.cat([better[pair, :first], worse[pair, alike:second]]))
        positions.append(torch.cat([torch.arange(first), torch.arange(alike, second)]))
    ids = pad_sequence(rows, batch_first=True)

    place = torch.arange(ids.shape[1], device=ids.device)
    of_worse = place >= better_length[:, None]
    hidden = of_worse[:, :, None] & ~of_worse[:, None, :] & (place >= shared[:, None])[:, None, :]
    # Padding comes last: causality hides it from tokens, and no row of the mask is empty.
    sees = (place[:, None] >= place) & ~hidden

    token = torch.arange(input_ids.shape[1], device=ids.device)
    in_better = token.expand(len(better), -1)
    in_worse = torch.where(token < shared[:, None], token, token - shared[:, None] + better_length[:, None])
    places = torch.cat([in_better, in_worse]) * attention_mask
    return JoinedPairs(ids, pad_sequence(positions, batch_first=True).to(ids.device), sees[:, None], places)


def share_prompts(model: Any) -> None:
    """Let a model's layers go through the common beginning of each pair once, where that pays.

    It is for batches whose second half are the counterparts of the first, as TRL's collators make them. Any other batch
    goes through as it is. So does one that starts from embeddings or a cache (a learnt prompt or prefix), and all of a
    model whose attention is not that to all earlier tokens, by PyTorch's own function.

    Args:
        model: a decoder of transformers with a head, with or without an adapter of peft.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = inner.base_model
    if not attends_to_all(layers.config):
        return
    own_forward = layers.forward

    # transformers reads the arguments of the method that is wrapped.
    @functools.wraps(own_forward)
    def forward(
        self: Any,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **rest: Any,
    ) -> Any:
        def as_it_is() -> Any:
            return own_forward(input_ids=input_ids, attention_mask=attention_mask, **rest)

        given = {name for name in ("position_ids", "past_key_values", "inputs_embeds") if rest.get(name) is not None}
        if input_ids is None or attention_mask is None or attention_mask.ndim != 2 or len(input_ids) % 2 or given:
            return as_it_is()
        if rest.get("output_hidden_states") or rest.get("output_attentions") or not attention_mask[:, 0].all():
            return as_it_is()
        joined = joined_pairs(input_ids, attention_mask)
        if joined.input_ids.numel() > MAX_SHARE_OF_TOKENS * input_ids.numel():
            return as_it_is()
        output = own_forward(
            input_ids=joined.input_ids,
            attention_mask=joined.attention_mask,
            **{**rest, "position_ids": joined.position_ids, "use_cache": False},
        )
        pair = torch.arange(len(joined.input_ids), device=input_ids.device).repeat(2)
        output.last_hidden_state = output.last_hidden_state[pair[:, None], joined.places]
        return output

    layers.forward = MethodType(forward, layers)
