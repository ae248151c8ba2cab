"""A causal language model on disk: loaded, saved with its adapter, asked for answers and for their likelihood.

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
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from assay.compute.device import Device, keep_freed_memory
from assay.compute.token_batches import sorted_batches
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.params import Params
from assay.core.progress import progress
from assay.fine_tuning.quantization import ADAPTER_FILE, QUANTISATION_FILE, four_bit_settings, in_four_bits
from assay.language_models.chat_template import (
    IGNORED,
    Message,
    TokenisedChat,
    require_chat_template,
    tokenised_prompts,
)
from assay.language_models.cpu_generation import PromptCache, end_tokens, generate_tokens

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
    """How likely a model finds the answers of `n` chats.

    Attributes:
        log_probabilities: natural logarithm of each answer's probability, shape `(n,)`.
        tokens: of each answer, shape `(n,)`.
    """

    log_probabilities: NDArray[np.float64]
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: without white space around it.
        tokens: without the one that ends it.
        ended: whether it ended by itself, and was not cut.
    """

    text: str
    tokens: int
    ended: bool


def load_base(
    base: str, device: torch.device, double_quantisation: bool | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A base model on a device and its tokenizer, which pads on the left, so that answers can follow.

    Args:
        base: folder of the model.
        device: where it is to be.
        double_quantisation: weights in 4 bits (NF4; Dettmers et al. 2023), and whether their scales are quantised too;
            None: weights as they are.

    Raises:
        InputError: there is no model in the folder, or its tokenizer has no chat template.
    """
    settings = None if double_quantisation is None else four_bit_settings(double_quantisation, device, EXACT_MODULES)
    return _loaded(base, device, settings), _tokenizer(base)


def _tokenizer(folder: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, padding_side="left"
    )
    require_chat_template(tokenizer, folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _loaded(base: str, device: torch.device, quantisation: dict[str, Any] | None) -> Any:
    if not (Path(base) / "config.json").is_file():
        raise InputError(f"{base}: no model there (config.json is missing); run `dvc repro fetch` or mend the path")
    if device.type == "cpu":
        keep_freed_memory()
    model: Any
    if quantisation is None:
        model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
        return model.to(device)
    return in_four_bits(AutoModelForCausalLM, base, quantisation, device)


def save_causal_lm(model: CausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a whole model or an adapter, and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(model, PreTrainedModel):
        config: Any = model.get_base_model().config
        if quantisation := getattr(config, "quantization_config", None):
            values = quantisation if isinstance(quantisation, dict) else quantisation.to_dict()
            write_json(
                folder / QUANTISATION_FILE,
                {name: values[name] for name in four_bit_settings(True, None, EXACT_MODULES)},
            )
        for adapter in model.peft_config.values():
            # The order of a set in the saved file would follow the hash seed.
            for name, value in list(vars(adapter).items()):
                if isinstance(value, set):
                    setattr(adapter, name, sorted(value))
    # Of a prompt peft looks whether the vocabulary has grown, and asks the hub.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not find a config file")
        model.save_pretrained(str(folder))
    tokenizer.save_pretrained(folder)


def load_causal_lm(
    folder: Path,
    device: torch.device,
    *,
    quantised: bool = True,
    trainable: bool = False,
    dequantised: bool = False,
) -> tuple[CausalLM, PreTrainedTokenizerBase]:
    """The model of a folder on a device, in evaluation mode, and its tokenizer.

    Args:
        folder: as `save_causal_lm` writes it, or of a base model.
        device: where it is to be.
        quantised: whether a base that was in 4 bits is to be so again.
        trainable: an adapter is to be trained further.
        dequantised: weights in 4 bits are written out in float32, with the values that they stand for: the same logits
            for eight times the memory, without unpacking at every pass.

    Raises:
        InputError: there is no model in the folder, or its base is gone.
    """
    if (folder / ADAPTER_FILE).is_file():
        # Imported here: it takes seconds, and only adapters need it.
        import peft

        base = peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        file = folder / QUANTISATION_FILE
        settings = read_json(file) if quantised and file.is_file() else None
        loaded = _loaded(str(base), device, settings)
        if dequantised and settings is not None:
            loaded = loaded.dequantize()
        model: CausalLM = peft.PeftModel.from_pretrained(loaded, str(folder), is_trainable=trainable)
    else:
        model = _loaded(str(folder), device, None)
    return model.eval(), _tokenizer(str(folder))


@torch.no_grad()
def answered(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    decoding: Decoding,
    device: Device,
    seed: int,
    what: str,
) -> list[Answer]:
    """The model's answer to each chat, shape `(n,)`; chats of like length go together.

    Args:
        model: in evaluation mode.
        tokenizer: of the model, padding on the left.
        chats: none ends with an answer.
        decoding: how tokens are chosen.
        device: where and in which precision to run.
        seed: of the draws, where the temperature is above 0.
        what: name of the work, for the progress report.
    """
    prompts = tokenised_prompts(tokenizer, chats)
    answers = [Answer("", 0, False)] * len(prompts)
    batches = sorted_batches(np.array([len(ids) for ids in prompts], dtype=np.int64), decoding.batch_size)
    torch.manual_seed(seed)
    for rows in progress(batches, what, total=len(batches), unit="batch"):
        batch = padded_prompts(tokenizer, [prompts[row] for row in rows], device)
        for row, answer in zip(rows, answered_batch(model, tokenizer, batch, decoding, device), strict=True):
            answers[row] = answer
    return answers


def padded_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], device: Device
) -> dict[str, torch.Tensor]:
    """Prompts as one batch, filled up on the left: `input_ids` and `attention_mask`, shape `(b, longest)` each."""
    padded = tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt")
    return {name: padded[name].to(device.device) for name in ("input_ids", "attention_mask")}


def answered_batch(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    batch: dict[str, torch.Tensor],
    decoding: Decoding,
    device: Device,
    cache: PromptCache | None = None,
) -> list[Answer]:
    """The model's answers to the prompts of one batch of `padded_prompts`, shape `(b,)`.

    Args:
        model: in evaluation mode.
        tokenizer: of the model, padding on the left.
        batch: of `b` prompts.
        decoding: how tokens are chosen.
        device: where and in which precision to run.
        cache: of `prompt_cache`; None: they are read here.
    """
    ends = end_tokens(model, tokenizer)
    choice = choice_of_tokens(tokenizer, decoding)
    tokens = generate_tokens(
        model, batch, decoding.max_new_tokens, device, cache=cache, eos_token_id=ends, **choice
    )  # fmt: skip
    said = tokens[:, batch["input_ids"].shape[1] :]
    is_end = torch.isin(said, said.new_tensor(ends))
    ended = is_end.any(dim=1)
    lengths = torch.where(ended, is_end.int().argmax(dim=1), said.shape[1])
    texts = tokenizer.batch_decode(said, skip_special_tokens=True)
    return [Answer(text.strip(), *rest) for text, *rest in zip(texts, lengths.tolist(), ended.tolist(), strict=True)]


def generated(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    decoding: Decoding,
    device: Device,
    seed: int,
    what: str,
) -> list[str]:
    """The texts of `answered`, shape `(n,)`."""
    return [answer.text for answer in answered(model, tokenizer, chats, decoding, device, seed, what)]


def choice_of_tokens(tokenizer: PreTrainedTokenizerBase, decoding: Decoding) -> dict[str, Any]:
    """Arguments of transformers' `generate` that say how tokens are chosen."""
    # Unless told otherwise, transformers draws from the likeliest 50 tokens alone.
    drawn = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    sampling = drawn if decoding.temperature else {}
    return {
        "do_sample": bool(decoding.temperature),
        "repetition_penalty": decoding.repetition_penalty,
        "pad_token_id": tokenizer.pad_token_id,
        **sampling,
    }


@torch.inference_mode()
def answer_likelihood(
    model: CausalLM, chats: Sequence[TokenisedChat], padding_id: int, batch_size: int, device: Device, what: str | None
) -> AnswerLikelihood:
    """How likely the answers of chats are, given what stands before them.

    Args:
        model: in evaluation mode.
        chats: tokenised, with labels on answers.
        padding_id: fills short chats up, on the right.
        batch_size: chats in a forward pass.
        device: where and in which precision to run.
        what: name of the work, for the progress report; None: no report.
    """
    lengths = np.array([len(chat.input_ids) for chat in chats], dtype=np.int64)
    log_probabilities = np.zeros(len(chats))
    batches = sorted_batches(lengths, batch_size)
    for rows in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        log_probabilities[rows] = answer_log_probabilities(model, [chats[row] for row in rows], padding_id, device)
    return AnswerLikelihood(log_probabilities, np.array([chat.answer_tokens for chat in chats], dtype=np.int64))


@torch.inference_mode()
def answer_log_probabilities(
    model: CausalLM, chats: Sequence[TokenisedChat], padding_id: int, device: Device
) -> NDArray[np.float64]:
    """`answer_likelihood` of one batch, as it is: natural logarithms, shape `(b,)`."""
    ids, labels, mask = padded(chats, padding_id, device.device)
    # From the end, since a learnt prompt makes rows longer; of answers alone, since the vocabulary is large.
    asked = (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0] - labels.shape[1]
    with device.autocast():
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=asked).logits
    found = label_log_probabilities(logits, labels[:, asked + 1]).sum(dim=1).double().cpu().numpy()
    return np.asarray(found, dtype=np.float64)


def padded(
    chats: Sequence[TokenisedChat], padding_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Chats as one batch, filled up on the right: token ids, labels and attention mask, shape `(b, longest)` each."""
    longest = max(len(chat.input_ids) for chat in chats)
    ids = torch.full((len(chats), longest), padding_id, dtype=torch.long)
    labels = torch.full((len(chats), longest), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(chats), longest), dtype=torch.long)
    for row, chat in enumerate(chats):
        length = len(chat.input_ids)
        ids[row, :length] = torch.tensor(chat.input_ids)
        labels[row, :length] = torch.tensor(chat.labels)
        mask[row, :length] = 1
    return ids.to(device), labels.to(device), mask.to(device)


def label_log_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the probability of each label, 0 where it is `IGNORED`.

    Args:
        logits: of the tokens before each of them, shape `(b, n, v)`.
        labels: shape `(b, n)`.

    Returns:
        Shape `(b, n)`.
    """
    has_loss = labels != IGNORED
    out = torch.zeros(labels.shape, device=logits.device)
    out[has_loss] = -torch.nn.functional.cross_entropy(logits[has_loss].float(), labels[has_loss], reduction="none")
    return out
