"""What a model says to prompts, and how likely it finds the reference answers to them, with each prompt read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.compute.token_batches import sorted_batches
from assay.core.progress import progress
from assay.language_models.chat_template import IGNORED, Message, TokenisedChat, tokenised_chats, tokenised_prompts
from assay.language_models.checkpoint import (
    Answer,
    AnswerLikelihood,
    CausalLM,
    Decoding,
    answer_likelihood,
    answered,
    answered_batch,
    label_log_probabilities,
    padded,
    padded_prompts,
)
from assay.language_models.cpu_generation import PromptCache, positions, prompt_cache, remembered_casts, roomy_cache


@torch.no_grad()
def answers_and_likelihood(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    decoding: Decoding,
    batch_size: int,
    device: Device,
    seed: int,
) -> tuple[list[Answer], AnswerLikelihood]:
    """The model's own answer to each chat, and how likely it finds the one that is there.

    The same as `answered` and `answer_likelihood` say, which are asked one after the other where a prompt cannot be
    shared: where more answers than the last have a likelihood, where a prompt is tokenised otherwise when an answer
    follows, and with models that `prompt_cache` cannot ask.

    Args:
        model: in evaluation mode.
        tokenizer: of the model, padding on the left.
        chats: each ends with an answer, shape `(n,)`.
        decoding: how tokens of the model's own answers are chosen.
        batch_size: reference answers in a forward pass.
        device: where and in which precision to run.
        seed: of the draws, where the temperature is above 0.
    """
    whole = tokenised_chats(tokenizer, chats)
    prompts = tokenised_prompts(tokenizer, [chat[:-1] for chat in chats])
    likelihood = np.zeros(len(chats))
    answers = [Answer("", 0, False)] * len(chats)
    batches = sorted_batches(np.array([len(ids) for ids in prompts], dtype=np.int64), decoding.batch_size)
    shared = all(_begins_with(chat, prompt) for chat, prompt in zip(whole, prompts, strict=True))
    torch.manual_seed(seed)
    for rows in progress(batches, "answers and likelihood", total=len(batches), unit="batch"):
        batch = padded_prompts(tokenizer, [prompts[row] for row in rows], device)
        cache = prompt_cache(model, batch, decoding.max_new_tokens, device) if shared else None
        if cache is None:
            found = answer_likelihood(model, whole, int(tokenizer.pad_token_id), batch_size, device, "likelihood")
            said = answered(model, tokenizer, [chat[:-1] for chat in chats], decoding, device, seed, "answers")
            return said, found
        references = [_after(whole[row], len(prompts[row])) for row in rows]
        likelihood[rows] = continuation_log_probabilities(
            cache, references, int(tokenizer.pad_token_id), batch_size, device
        )
        said = answered_batch(model, tokenizer, batch, decoding, device, cache)
        for row, answer in zip(rows, said, strict=True):
            answers[row] = answer
    tokens = np.array([chat.answer_tokens for chat in whole], dtype=np.int64)
    return answers, AnswerLikelihood(likelihood, tokens)


def _begins_with(chat: TokenisedChat, prompt: list[int]) -> bool:
    """Whether a chat is its prompt and an answer, the only one with loss."""
    length = len(prompt)
    return chat.input_ids[:length] == prompt and all(label == IGNORED for label in chat.labels[:length])


def _after(chat: TokenisedChat, prompt_tokens: int) -> TokenisedChat:
    """What follows a prompt, and the last token of it, from which the first that follows is foretold."""
    return TokenisedChat(chat.input_ids[prompt_tokens - 1 :], chat.labels[prompt_tokens - 1 :])


@torch.no_grad()
def continuation_log_probabilities(
    prompts: PromptCache,
    continuations: Sequence[TokenisedChat],
    padding_id: int,
    batch_size: int,
    device: Device,
) -> NDArray[np.float64]:
    """How likely what follows prompts is: natural logarithms, shape `(b,)`.

    Args:
        prompts: `b` of them; their cache stays as it is.
        continuations: each begins with the last token of its prompt, shape `(b,)`.
        padding_id: fills short ones up, on the right.
        batch_size: of them in a forward pass.
        device: where and in which precision to run.
    """
    log_probabilities = np.zeros(len(continuations))
    lengths = np.array([len(one.input_ids) for one in continuations], dtype=np.int64)
    with remembered_casts(prompts.model), device.autocast():
        for rows in sorted_batches(lengths, batch_size):
            ids, labels, follows = padded([continuations[row] for row in rows], padding_id, device.device)
            chosen = torch.from_numpy(rows).to(device.device)
            seen = torch.cat([prompts.attention_mask[chosen, :-1], follows], dim=1)
            logits = prompts.model(
                input_ids=ids,
                attention_mask=seen,
                position_ids=positions(seen)[:, -ids.shape[1] :],
                past_key_values=_of_rows(prompts, chosen, ids.shape[1]),
                use_cache=True,
            ).logits[:, :-1]
            log_probabilities[rows] = label_log_probabilities(logits, labels[:, 1:]).sum(dim=1).double().cpu().numpy()
    return log_probabilities


def _of_rows(prompts: PromptCache, rows: torch.Tensor, room: int) -> DynamicCache:
    """A copy of some rows of a cache, with room for so many tokens more."""
    part = roomy_cache(prompts.model, room)
    layers: list[tuple[Any, Any]] = list(zip(part.layers, prompts.cache.layers, strict=True))
    for layer, whole in layers:
        layer.update(whole.keys[rows], whole.values[rows])
    return part
