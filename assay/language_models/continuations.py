"""How likely a model finds texts after a prompt, and what it says itself, with each prompt read once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.core.progress import progress
from assay.language_models.chat_template import ANSWERING, IGNORED, Message, TokenisedChat, tokenise_chats
from assay.language_models.checkpoint import (
    CausalLM,
    Decoding,
    answer_likelihood,
    generate_batch,
    generate_tokens,
    label_log_probabilities,
    prompt_batches,
)

CHUNK_TOKENS = 16
"""Tokens of each continuation of a batch whose logits are held at a time: the vocabulary is large."""

CHATS_AT_ONCE = 4
"""Whole chats of a batch, where prompts are not read once: the logits of all their answer tokens are held."""

Tokens = list[int]


@dataclass(frozen=True)
class Asked:
    """A prompt, and `k` answers that may follow it, each with the token that ends it."""

    prompt: Tokens
    continuations: list[Tokens]


def tokenise_asked(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]], answers: Sequence[Sequence[str]]
) -> list[Asked]:
    """Chats that end where an answer is to begin, and `k` answers to each, as tokens. Raises as `tokenise_chats`."""
    asked = []
    for chat, of_chat in zip(chats, answers, strict=True):
        whole = [[*chat, {"role": ANSWERING, "content": answer}] for answer in of_chat]
        earlier = [place for place, message in enumerate(chat) if message["role"] == ANSWERING]
        tokenised = tokenise_chats(tokenizer, whole, [earlier] * len(whole))
        start = next(place for place, label in enumerate(tokenised[0].labels) if label != IGNORED)
        continuations = [[label for label in one.labels if label != IGNORED] for one in tokenised]
        asked.append(Asked(tokenised[0].input_ids[:start], continuations))
    return asked


@torch.inference_mode()
def ask(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Asked],
    answered: bool,
    decoding: Decoding,
    device: Device,
    seed: int,
    what: str | None,
) -> tuple[NDArray[np.float64], list[tuple[Tokens, bool]] | None]:
    """Log probability of each of `k` continuations of `n` prompts, `(n, k)`, and answers of `generate_batch`, `(n,)`.

    There are no answers unless `answered`, and no report without `what`. The model is in evaluation mode; a batch has
    `decoding.batch_size` prompts of similar length. A prompt is read once, and its keys and values serve all that
    follows. A model with a soft prompt reads it anew each time, since peft puts the soft prompt before whatever it is
    given.
    """
    prompts = [one.prompt for one in asked]
    if hasattr(model, "peft_config") and model.active_peft_config.is_prompt_learning:
        chats = [
            TokenisedChat([*one.prompt, *follows], [IGNORED] * len(one.prompt) + follows)
            for one in asked
            for follows in one.continuations
        ]
        likelihood = answer_likelihood(model, chats, tokenizer.pad_token_id, CHATS_AT_ONCE, device, what)
        answers = generate_tokens(model, tokenizer, prompts, decoding, device, seed, what) if answered else None
        return likelihood.log_probabilities.reshape(len(asked), -1), answers
    log_probabilities = np.zeros((len(asked), len(asked[0].continuations) if asked else 0))
    said: dict[int, tuple[Tokens, bool]] = {}
    batches = prompt_batches(model, prompts, decoding.batch_size)
    torch.manual_seed(seed)
    for rows in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        batch = tokenizer.pad({"input_ids": [prompts[row] for row in rows]}, return_tensors="pt").to(device.device)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, :-1]
        with device.autocast():
            cache = model(
                input_ids=ids[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=positions,
                logits_to_keep=1,
                use_cache=True,
            ).past_key_values
        for place in range(log_probabilities.shape[1]):
            follow = [[prompts[row][-1], *asked[row].continuations[place]] for row in rows]
            log_probabilities[rows, place] = _score(model, copy.deepcopy(cache), mask, follow, device)
        if answered:
            found = generate_batch(model, tokenizer, [prompts[row] for row in rows], decoding, device, cache=cache)
            said.update(zip(rows.tolist(), found, strict=True))
    return log_probabilities, [said[row] for row in range(len(asked))] if answered else None


def _score(
    model: CausalLM, cache: Any, mask: torch.Tensor, follow: Sequence[Sequence[int]], device: Device
) -> NDArray[np.float64]:
    """Log probability of what follows the prompts of a cache, which is used up, shape `(b,)`.

    `mask` is that of the prompts, `(b, n)`; each sequence begins with the last token of its prompt, which the cache is
    without.
    """
    ids = pad_sequence([torch.tensor(one[:-1]) for one in follow], batch_first=True).to(device.device)
    labels = pad_sequence([torch.tensor(one[1:]) for one in follow], batch_first=True, padding_value=IGNORED)
    labels, seen = labels.to(device.device), mask[:, :-1]
    rows, total = torch.arange(len(follow), device=device.device), torch.zeros(len(follow), device=device.device)
    for start in range(0, labels.shape[1], CHUNK_TOKENS):
        part = slice(start, start + CHUNK_TOKENS)
        # Rows that have ended cost nothing more.
        left = (labels[rows, start] != IGNORED).nonzero()[:, 0]
        cache.batch_select_indices(left)
        rows, wanted = rows[left], labels[rows[left], part]
        seen = torch.cat([seen[left], (wanted != IGNORED).to(seen.dtype)], dim=1)
        positions = (seen.cumsum(dim=1) - 1)[:, -wanted.shape[1] :]
        with device.autocast():
            logits = model(
                input_ids=ids[rows, part], attention_mask=seen, position_ids=positions, past_key_values=cache
            ).logits
        total[rows] += label_log_probabilities(logits, wanted).sum(dim=1)
    return total.double().cpu().numpy()
