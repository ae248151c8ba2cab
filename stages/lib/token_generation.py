"""transformers' `generate`, with the same tokens in less time on a processor (`make bench` says how much).

A step of generation reads every weight and every key and value once, and computes little. Four things made it read and
write several times as much:

1. The cache of transformers is copied whole at every step, to add one token to it. Here it has room for the tokens to
   come, and holds them in the precision in which attention reads them.
2. Autocast casts a frozen weight anew at every step; it remembers a cast only of a weight that takes gradients. Here
   all weights do while answers are generated, where no gradient is computed.
3. A low-rank adapter beside a layer's weights is two more products, a sum and their casts for each of hundreds of
   layers. Here it is added to the weights while answers are generated.
4. Answers that have ended are carried on until the last one has. Here they are left out every few tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from stages.lib.device import Device

TOKENS_BETWEEN_LOOKS = 16
"""After so many tokens the answers that have ended are left out: to start again costs about as much as one token."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """The keys and values of one layer, with room behind them.

    Legend: `b` rows, `h` heads, `n` tokens so far, `d` dimensions of a head.

    Args:
        room: tokens that can be added to those of the first call without a copy.

    Attributes:
        keys: shape `(b, h, n, d)`, a view of a larger tensor.
        values: likewise.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.held: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **rest: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add tokens, and return all: keys and values, shape `(b, h, n, d)` each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        self.keys = self._with("keys", self.keys, key_states, start)
        self.values = self._with("values", self.values, value_states, start)
        return self.keys, self.values

    def _with(self, name: str, before: torch.Tensor | None, added: torch.Tensor, start: int) -> torch.Tensor:
        end = start + added.shape[-2]
        held = self.held.get(name)
        # Another tensor stands there where rows were chosen or repeated meanwhile.
        if held is None or before is None or before.data_ptr() != held.data_ptr() or end > held.shape[-2]:
            rows, heads, _, dimensions = added.shape
            held = added.new_empty((rows, heads, end + self.room, dimensions), dtype=attention_precision(added))
            if before is not None and start:
                held[:, :, :start] = before
            self.held[name] = held
        held[:, :, start:end] = added
        return held[:, :, :end]


def attention_precision(states: torch.Tensor) -> torch.dtype:
    """The precision in which attention reads keys and values: that of autocast where it is on."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def roomy_cache(model: Any, room: int) -> DynamicCache:
    """An empty cache for a model, with room for so many tokens after the prompt.

    Layers of other kinds (sliding windows, recurrent states) stay as transformers has them.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@contextmanager
def remembered_casts(model: Any) -> Iterator[None]:
    """Inside the block autocast remembers its casts of every weight, until autocast ends; take no gradients there.

    It does so under `torch.no_grad`, and not under `torch.inference_mode`.
    """
    frozen = [one for one in model.parameters() if one.is_floating_point() and not one.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def can_be_added(model: Any) -> bool:
    """Whether a model on a processor has a low-rank adapter that can be added to its weights and is not yet.

    Others are whole models, prompts and prefixes, adapters on weights in 4 bits, where the sum would be rounded to 4
    bits, and those on weights that two layers share, where the other layer would change too. On a GPU adapters stay
    beside the weights, as the sums would take as much memory as the weights once more.
    """
    layers = _adapted_layers(model)
    embeddings = model.get_input_embeddings().weight
    return bool(layers) and embeddings.device.type == "cpu" and all(
        type(layer.get_base_layer()) is nn.Linear and layer.weight is not embeddings and not layer.merged
        for layer in layers
    )  # fmt: skip


def _adapted_layers(model: Any) -> list[Any]:
    if not hasattr(model, "peft_config"):
        return []
    # Imported here: it takes seconds, and only adapters need it.
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@contextmanager
def adapter_in_weights(model: Any) -> Iterator[None]:
    """Inside the block a low-rank adapter is part of the weights: the same model but for rounding, and faster.

    Afterwards the weights are those from before, to the bit. Where `can_be_added` says no, nothing happens. It takes as
    much memory as the adapted weights once more.
    """
    if not can_be_added(model):
        yield
        return
    weights = [layer.get_base_layer().weight for layer in _adapted_layers(model)]
    before = [weight.data for weight in weights]
    try:
        # A safe merge makes new tensors, so those from before stay as they are; it may fail midway, of NaN.
        model.merge_adapter(safe_merge=True)
        yield
    finally:
        model.unmerge_adapter()
        for weight, data in zip(weights, before, strict=True):
            weight.data = data


@torch.no_grad()
def generate_tokens(
    model: Any, batch: Mapping[str, torch.Tensor], max_new_tokens: int, device: Device, **arguments: Any
) -> torch.Tensor:
    """Prompts with the answers to them, shape `(b, prompt + answer)`, as `generate` returns them.

    Args:
        model: a causal language model, or one with an adapter of peft, in evaluation mode.
        batch: `input_ids` and `attention_mask`, filled up on the left, shape `(b, prompt)` each.
        max_new_tokens: an answer is cut there.
        device: where and in which precision to run.
        arguments: others of `generate`, `pad_token_id` among them.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    rows, prompt = ids.shape
    ends = ids.new_tensor(end_tokens(model, arguments.get("eos_token_id")))
    at_once = TOKENS_BETWEEN_LOOKS if _can_be_left_out(model, rows, arguments) else max_new_tokens
    cache = roomy_cache(model, max_new_tokens)
    tokens = ids.new_full((rows, prompt + max_new_tokens), arguments["pad_token_id"])
    tokens[:, :prompt] = ids
    going_on = torch.arange(rows, device=ids.device)
    length = prompt
    with adapter_in_weights(model), remembered_casts(model), device.autocast():
        while len(going_on) and length < prompt + max_new_tokens:
            said = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=min(at_once, prompt + max_new_tokens - length),
                past_key_values=cache,
                **arguments,
            )
            tokens[going_on, : said.shape[1]] = said
            kept = (~torch.isin(said[:, length:], ends).any(dim=1)).nonzero()[:, 0]
            mask = nn.functional.pad(mask, (0, said.shape[1] - length), value=1)[kept]
            if len(kept) < len(going_on):
                cache.batch_select_indices(kept)
            ids, going_on, length = said[kept], going_on[kept], said.shape[1]
    return tokens[:, :length]


def end_tokens(model: Any, given: int | list[int] | None = None) -> list[int]:
    """Tokens at which `generate` ends an answer: those given, else those that the model declares; there may be none."""
    declared = model.generation_config.eos_token_id if given is None else given
    if declared is None:
        return []
    return list(declared) if isinstance(declared, list) else [declared]


def _can_be_left_out(model: Any, rows: int, arguments: Mapping[str, Any]) -> bool:
    """Whether answers that have ended can be left out before the last one has.

    Not where the arguments count or show the tokens of one call, and not where peft puts a learnt prompt or prefix
    before what goes through the model first.
    """
    one_call = bool({"streamer", "min_new_tokens", "num_beams"} & set(arguments))
    learns_prompt = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    return rows > 1 and not one_call and not learns_prompt
