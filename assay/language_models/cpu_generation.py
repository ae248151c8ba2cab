"""transformers' `generate`, with the same tokens in less time on a processor (`make bench` says how much).

A step of generation reads every weight and every key and value once, and computes little. Six things made it read and
write several times as much:

1. The cache of transformers is copied whole at every step, to add one token to it. Here it has room for the tokens to
   come, and holds them in the precision in which attention reads them.
2. Autocast casts a frozen weight anew at every step; it remembers a cast only of a weight that takes gradients. Here
   all weights do while answers are generated, where no gradient is computed.
3. A low-rank adapter beside a layer's weights is two more products, a sum and their casts for each of hundreds of
   layers. Here it is added to the weights while answers are generated.
4. Answers that have ended are carried on until the last one has. Here they are left out every few tokens.
5. Prompts go through the model filled up to the longest of them. Here a few of like length go together, and meet in the
   cache: with passages a prompt is four times as long as without.
6. Products of few rows with a large matrix take it in an order that suits many rows. Here weights are put into the
   order that oneDNN wants for the length of a generation (float32; in bfloat16 PyTorch goes to oneDNN by itself).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from assay.compute.device import Device

TOKENS_BETWEEN_LOOKS = 16
"""After so many tokens the answers that have ended are left out: to start again costs about as much as one token."""

PROMPTS_OF_A_PASS = 8
"""So many prompts of like length go through a model on a processor together; on a GPU all do."""


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


@contextmanager
def packed_weights(model: Any, device: Device) -> Iterator[None]:
    """Inside the block linear layers on a processor multiply by oneDNN, with weights in its own order.

    It is the operator to which `torch.compile` lowers frozen layers; where a build of PyTorch has none, nothing
    happens. It takes as much memory as the weights once more.
    """
    layers: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
    operators = torch.ops.mkldnn
    names = ("_linear_pointwise", "_reorder_linear_weight")
    is_known = torch.backends.mkldnn.enabled and all(hasattr(operators, name) for name in names)
    in_float32 = device.precision == torch.float32 and all(one.weight.dtype == torch.float32 for one in layers)
    if device.device.type != "cpu" or not in_float32 or not is_known:
        yield
        return

    def packed(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        weight, bias = operators._reorder_linear_weight(layer.weight.detach(), None), layer.bias
        return lambda rows: operators._linear_pointwise(rows, weight, bias, "none", [], "")

    for layer in layers:
        layer.forward = packed(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


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


class PromptCache(NamedTuple):
    """Prompts that were read but for their last tokens.

    Legend: `b` prompts, `n` tokens of the longest, virtual ones among them.

    Attributes:
        model: that goes on from here: the one that read them or, where that has a learnt prompt or prefix, its base.
        input_ids: filled up on the left, shape `(b, n)`; for a virtual token stands the prompt's last.
        attention_mask: shape `(b, n)`.
        cache: keys and values of the first `n - 1` tokens, with room behind them.
        num_virtual_tokens: how many of the `n` come from a learnt prompt or prefix.
    """

    model: Any
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    cache: DynamicCache
    num_virtual_tokens: int


@torch.no_grad()
def prompt_cache(
    model: Any, batch: Mapping[str, torch.Tensor], max_new_tokens: int, device: Device
) -> PromptCache | None:
    """Read prompts but for their last tokens, for `generate_tokens`.

    A learnt prompt or prefix is keys and values before those of a prompt, the same for all, and is read once. Positions
    go on from it without those of padding, so that an answer does not depend on the prompts beside it; in peft's own
    generation with a learnt prompt it does.

    Args:
        model: a causal language model, or one with an adapter of peft, in evaluation mode.
        batch: `input_ids` and `attention_mask`, filled up on the left, shape `(b, prompt)` each.
        max_new_tokens: there is room for so many more.
        device: where and in which precision to run.

    Returns:
        None where the model cannot be asked so: it keeps other things than keys and values, or takes no positions.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    prompt = ids.shape[1]
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    reader = inner if _learns_prompt(model) else model
    cache = roomy_cache(inner, max_new_tokens)
    layers: list[Any] = cache.layers
    takes_positions = "position_ids" in inspect.signature(inner.forward).parameters
    holds_all = all(isinstance(layer, RoomyLayer) for layer in layers)
    if prompt < 2 or not takes_positions or not holds_all:
        return None
    lengths = mask.sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    with adapter_in_weights(model), remembered_casts(model), device.autocast():
        learnt = _learnt_keys_and_values(model, inner) if _learns_prompt(model) else []
        virtual = learnt[0][0].shape[2] if learnt else 0
        whole = mask.new_zeros((len(ids), virtual + prompt))
        parts: list[tuple[int, Any]] = []
        for rows in torch.split(order, PROMPTS_OF_A_PASS if device.device.type == "cpu" else len(order)):
            first = min(prompt - int(lengths[rows].max()), prompt - 2)
            seen = nn.functional.pad(mask[rows, first:], (virtual, 0), value=1)
            whole[rows, first:] = seen
            part: Any = roomy_cache(inner, prompt - first if virtual else 0)
            for layer, (keys, values) in zip(part.layers, learnt, strict=bool(learnt)):
                layer.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1))
            reader(
                input_ids=ids[rows, first:-1],
                attention_mask=seen[:, :-1],
                position_ids=positions(seen)[:, virtual:-1],
                past_key_values=part,
                use_cache=True,
                logits_to_keep=1,
            )
            parts.append((first, part))
        as_given = order.argsort()
        for layer in layers:
            filled = [[nn.functional.pad(held, (0, 0, first, 0)) for held in _taken(part)] for first, part in parts]
            keys, values = (torch.cat(tensors)[as_given] for tensors in zip(*filled, strict=True))
            layer.update(keys, values)
    with_virtual = torch.cat([ids[:, -1:].expand(-1, virtual), ids], dim=1)
    return PromptCache(reader, with_virtual, whole, cache, virtual)


def _learnt_keys_and_values(model: Any, inner: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What a learnt prompt or prefix puts into the cache, by layer: shape `(1, heads, tokens, dimensions)` each."""
    learnt = model.get_prompt(batch_size=1)
    if isinstance(learnt, torch.Tensor):
        cache = roomy_cache(inner, 0)
        embeddings = learnt.to(inner.get_input_embeddings().weight.dtype)
        inner(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=1)
        learnt = cache
    return [(layer.keys, layer.values) for layer in learnt.layers]


def positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token among those that the mask shows, shape `(b, n)` as the mask."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def _taken(cache: DynamicCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the lowest layer, which is taken out, so that no cache is in memory twice."""
    layer: Any = cache.layers.pop(0)
    return layer.keys, layer.values


@torch.no_grad()
def generate_tokens(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    max_new_tokens: int,
    device: Device,
    *,
    cache: PromptCache | None = None,
    **arguments: Any,
) -> torch.Tensor:
    """Prompts with the answers to them, shape `(b, prompt + answer)`, as `generate` returns them.

    Args:
        model: a causal language model, or one with an adapter of peft, in evaluation mode.
        batch: `input_ids` and `attention_mask`, filled up on the left, shape `(b, prompt)` each.
        max_new_tokens: an answer is cut there.
        device: where and in which precision to run.
        cache: of `prompt_cache`, with room for the answers; None: the prompts are read here.
        arguments: others of `generate`, `pad_token_id` and `eos_token_id` (a list) among them.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    ends = ids.new_tensor(arguments["eos_token_id"])
    with ExitStack() as contexts:
        for context in (adapter_in_weights(model), remembered_casts(model), device.autocast()):
            contexts.enter_context(context)
        if cache is None and len(ids) > 1:
            cache = prompt_cache(model, batch, max_new_tokens, device)
        contexts.enter_context(packed_weights(model, device))
        if cache is None:
            cache = PromptCache(model, ids, mask, roomy_cache(model, max_new_tokens), 0)
        model, ids, mask, held, virtual = cache
        at_once = TOKENS_BETWEEN_LOOKS if _can_be_left_out(model, len(ids), arguments) else max_new_tokens
        length = ids.shape[1]
        last = length + max_new_tokens
        tokens = ids.new_full((len(ids), last), arguments["pad_token_id"])
        tokens[:, :length] = ids
        going_on = torch.arange(len(ids), device=ids.device)
        while len(going_on) and length < last:
            said = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=min(at_once, last - length),
                past_key_values=held,
                **arguments,
            )
            tokens[going_on, : said.shape[1]] = said
            kept = (~torch.isin(said[:, length:], ends).any(dim=1)).nonzero()[:, 0]
            mask = nn.functional.pad(mask, (0, said.shape[1] - length), value=1)[kept]
            if len(kept) < len(going_on):
                held.batch_select_indices(kept)
            ids, going_on, length = said[kept], going_on[kept], said.shape[1]
    return tokens[:, virtual:length]


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: those that the model declares, and the tokenizer's."""
    declared = model.generation_config.eos_token_id
    declared = declared if isinstance(declared, list) else [declared]
    return sorted({token for token in [*declared, tokenizer.eos_token_id] if token is not None})


def _can_be_left_out(model: Any, rows: int, arguments: Mapping[str, Any]) -> bool:
    """Whether answers that have ended can be left out before the last one has.

    Not where the arguments count or show the tokens of one call, and not where peft puts a learnt prompt or prefix
    before what goes through the model first, which it does not where it is in the cache.
    """
    one_call = bool({"streamer", "min_new_tokens", "num_beams"} & set(arguments))
    return rows > 1 and not one_call and not _learns_prompt(model)


def _learns_prompt(model: Any) -> bool:
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))
