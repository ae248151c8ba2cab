"""A causal language model on disk: loaded, saved with its adapter, its answers and their likelihood.

A folder holds either a whole model or an adapter of peft with the path of its base, and in both cases the tokenizer; a
base in 4 bits has its settings in `quantisation.json` beside the adapter. Plain `transformers` and `peft` load both:

    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from assay.compute.device import Device, keep_freed_memory
from assay.compute.model_limits import require_positions, require_safetensors, require_vocabulary
from assay.compute.token_batches import sorted_batches
from assay.core.outputs import read_json
from assay.core.params import Params
from assay.core.progress import progress
from assay.fine_tuning.adapters import load_weights, save_weights
from assay.fine_tuning.quantization import ADAPTER_FILE, QUANTISATION_FILE, four_bit_settings
from assay.language_models.base_template import TemplateArguments, load_tokenizer, turn_end
from assay.language_models.chat_template import IGNORED, Message, TokenisedChat, tokenise_prompts

EXACT_MODULES = ("lm_head",)
"""What transformers calls the layer that gives the logits; it stays in full precision, as it often shares its weights
with the embeddings."""

CausalLM = Any
"""A causal language model of transformers, or one with an adapter of peft: what both can do is not in a common type."""


class Decoding(Params):
    """Section `decoding`: how answers are generated. A temperature of 0 takes the likeliest token, always."""

    max_new_tokens: int = Field(ge=1, le=131072)
    temperature: float = Field(ge=0, le=10)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(ge=1, le=10)
    batch_size: int = Field(ge=1, le=65536)


@dataclass(frozen=True)
class AnswerLikelihood:
    """Natural logarithm of the probability of the answers of `n` chats, and their tokens, shape `(n,)` each."""

    log_probabilities: NDArray[np.float64]
    tokens: NDArray[np.int64]


def load_base(
    base: str, device: torch.device, double_quantisation: bool | None = None, arguments: TemplateArguments | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A base model on a device and its tokenizer, which pads on the left, so that answers can follow.

    With `double_quantisation` weights are in 4 bits (NF4; Dettmers et al. 2023), their scales too if it is true. An
    `InputError` as of `load_tokenizer`.
    """
    settings = None if double_quantisation is None else four_bit_settings(double_quantisation, device, EXACT_MODULES)
    tokenizer = load_tokenizer(base, base, arguments)
    return _loaded(base, device, settings, tokenizer), tokenizer


def _loaded(base: str, device: torch.device, quantisation: dict[str, Any] | None, tokenizer: Any) -> Any:
    require_safetensors(base)
    if device.type == "cpu":
        keep_freed_memory()
    exact = {"dtype": torch.float32} if quantisation is None else {}
    model = load_weights(AutoModelForCausalLM, base, quantisation, device, **exact)
    if quantisation is None:
        model.to(device)
    require_vocabulary(tokenizer, model.config, base)
    # For whoever generates with it, TRL and other programs among them.
    ends = sorted({*end_tokens(model, tokenizer), turn_end(tokenizer)})
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return model


def save_causal_lm(model: CausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a whole model or an adapter, and the tokenizer."""
    save_weights(model, folder)
    tokenizer.save_pretrained(folder)


def load_causal_lm(
    folder: Path,
    device: torch.device,
    arguments: TemplateArguments | None = None,
    *,
    quantised: bool = True,
    trainable: bool = False,
    dequantised: bool = False,
) -> tuple[CausalLM, PreTrainedTokenizerBase]:
    """The model of a folder on a device, in evaluation mode, and its tokenizer.

    The folder is of `save_causal_lm` or of a base model; an `InputError` as of `load_tokenizer`.

    Args:
        arguments: of the chat template, where the folder may be a base model's; what is saved has them in it.
        quantised: whether a base that was in 4 bits is to be so again.
        trainable: an adapter is to be trained further.
        dequantised: weights in 4 bits are written out in float32, with the values that they stand for: the same logits
            for eight times the memory, without unpacking at every pass.
    """
    if (folder / ADAPTER_FILE).is_file():
        # Imported here: it takes seconds, and only adapters need it.
        import peft

        require_safetensors(folder)
        base = str(peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path)
        file = folder / QUANTISATION_FILE
        settings = read_json(file) if quantised and file.is_file() else None
        tokenizer = load_tokenizer(str(folder), base, arguments)
        loaded = _loaded(base, device, settings, tokenizer)
        if dequantised and settings is not None:
            loaded = loaded.dequantize()
        model: CausalLM = peft.PeftModel.from_pretrained(loaded, str(folder), is_trainable=trainable)
    else:
        tokenizer = load_tokenizer(str(folder), str(folder), arguments)
        model = _loaded(str(folder), device, None, tokenizer)
    return model.eval(), tokenizer


def end_tokens(model: CausalLM, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: those that the model declares, the end of a turn among them, and the tokenizer's."""
    declared = model.generation_config.eos_token_id
    declared = declared if isinstance(declared, list) else [declared]
    return sorted({token for token in [*declared, tokenizer.eos_token_id] if token is not None})


def cut_at_end(tokens: Sequence[int], ends: Sequence[int]) -> tuple[list[int], bool]:
    """An answer's tokens up to the first that ends it, and whether there is one.

    What stands behind is padding, even where the padding token is the one that ends answers.
    """
    for place, token in enumerate(tokens):
        if token in ends:
            return list(tokens[: place + 1]), True
    return list(tokens), False


def prompt_batches(model: CausalLM, prompts: Sequence[list[int]], batch_size: int) -> list[NDArray[np.int64]]:
    """Row numbers of prompts, longest first, in batches of similar length; for prompt tuning, of equal length.

    In generation peft puts a soft prompt before the padding of a shorter prompt, and so at another distance from it:
    what such a model answered would depend on the other prompts of the batch.
    """
    lengths = np.array([len(ids) for ids in prompts], dtype=np.int64)
    batches = sorted_batches(lengths, batch_size)
    if not hasattr(model, "peft_config") or model.active_peft_config.peft_type != "PROMPT_TUNING":
        return batches
    return [part for rows in batches for part in np.split(rows, np.flatnonzero(np.diff(lengths[rows])) + 1)]


@torch.no_grad()
def generate_batch(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    device: Device,
    streamer: TextStreamer | None = None,
    cache: Any = None,
) -> list[tuple[list[int], bool]]:
    """Answers of a model in evaluation mode to one batch: tokens with the one that ends each, and if there is one.

    A cache of the prompts but their last tokens spares reading them again; it is used up. An `InputError` unless the
    model has positions for the longest prompt and its answer.
    """
    require_positions(model.config, decoding, "decoding", max(map(len, prompts)))
    ends = end_tokens(model, tokenizer)
    batch = tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt").to(device.device)
    # Unless told otherwise, transformers draws from the likeliest 50 tokens alone.
    drawn = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    with warnings.catch_warnings(), device.autocast():
        # Of a soft prompt; a batch has no padding then, and positions are right without.
        warnings.filterwarnings("ignore", message="Position ids are not supported")
        tokens = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=decoding.max_new_tokens,
            do_sample=bool(decoding.temperature),
            repetition_penalty=decoding.repetition_penalty,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
            streamer=streamer,
            past_key_values=cache,
            **(drawn if decoding.temperature else {}),
        )
    return [cut_at_end(row, ends) for row in tokens[:, batch["input_ids"].shape[1] :].tolist()]


def generate_tokens(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    device: Device,
    seed: int,
    what: str | None,
) -> list[tuple[list[int], bool]]:
    """`generate_batch` of any number of prompts, in batches of similar length; without `what` nothing is reported."""
    answers: dict[int, tuple[list[int], bool]] = {}
    batches = prompt_batches(model, prompts, decoding.batch_size)
    torch.manual_seed(seed)
    for rows in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        found = generate_batch(model, tokenizer, [prompts[row] for row in rows], decoding, device)
        answers.update(zip(rows.tolist(), found, strict=True))
    return [answers[row] for row in range(len(prompts))]


def generate_answers(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    decoding: Decoding,
    device: Device,
    seed: int,
    what: str,
) -> list[str]:
    """The text of the answer to each chat, none of which ends with one, shape `(n,)`; else as `generate_tokens`."""
    found = generate_tokens(model, tokenizer, tokenise_prompts(tokenizer, chats), decoding, device, seed, what)
    return [text.strip() for text in tokenizer.batch_decode([ids for ids, _ in found], skip_special_tokens=True)]


@torch.inference_mode()
def answer_likelihood(
    model: CausalLM, chats: Sequence[TokenisedChat], padding_id: int, batch_size: int, device: Device, what: str | None
) -> AnswerLikelihood:
    """How likely a model in evaluation mode finds the answers of chats, those tokens that have labels.

    `batch_size` chats of similar length are a forward pass, padded on the right with `padding_id`. Without `what` no
    progress is reported.
    """
    lengths = np.array([len(chat.input_ids) for chat in chats], dtype=np.int64)
    log_probabilities = np.zeros(len(chats))
    batches = sorted_batches(lengths, batch_size)
    for rows in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        ids, labels, mask = pad_chats([chats[row] for row in rows], padding_id, device.device)
        # From the end, since a soft prompt makes rows longer; of answers alone, since the vocabulary is large.
        asked = (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0] - labels.shape[1]
        with device.autocast():
            logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=asked).logits
        log_probabilities[rows] = label_log_probabilities(logits, labels[:, asked + 1]).sum(dim=1).cpu().numpy()
    return AnswerLikelihood(log_probabilities, np.array([chat.answer_tokens for chat in chats], dtype=np.int64))


def pad_chats(
    chats: Sequence[TokenisedChat], padding_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Chats as one batch, padded on the right: token ids, labels and attention mask, shape `(b, longest)` each."""
    ids, labels, mask = (
        pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filler).to(device)
        for rows, filler in (
            ([chat.input_ids for chat in chats], padding_id),
            ([chat.labels for chat in chats], IGNORED),
            ([[1] * len(chat.input_ids) for chat in chats], 0),
        )
    )
    return ids, labels, mask


def label_log_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the probability of each label, 0 where it is `IGNORED`; shape `(b, n)`, as the labels.

    The logits, of shape `(b, n, v)`, are those at the token before each label.
    """
    has_loss = labels != IGNORED
    out = torch.zeros(labels.shape, device=logits.device)
    out[has_loss] = -torch.nn.functional.cross_entropy(logits[has_loss].float(), labels[has_loss], reduction="none")
    return out
