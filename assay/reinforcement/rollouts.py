"""Answers that a policy samples, and how likely it and its reference find them, token by token.

Tokens are drawn from the whole distribution of the policy at a temperature: a policy gradient is that of the
distribution that was sampled from, so nothing is cut off (no top-k, no nucleus, no repetition penalty), and the same
temperature divides the logits wherever a probability is computed.

Legend: `b` answers, `t` tokens of the longest, `h` dimensions of a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.compute.token_batches import sorted_batches
from assay.language_models.chat_template import IGNORED, TokenisedChat
from assay.language_models.checkpoint import CausalLM, Decoding, generate_tokens, padded
from assay.reinforcement.ppo_equations import entropies

ROWS_ON_A_PROCESSOR = 4
"""Chats of like length that go through a model together: fewer have less padding, and cast the weights more often."""


@dataclass(frozen=True)
class SampledAnswer:
    """One answer.

    Attributes:
        prompt_ids: tokens of what was asked.
        answer_ids: tokens of the answer, at least one, with the one that ends it where it ends.
        ended: whether it does; else it was cut.
        text: of the answer.
    """

    prompt_ids: list[int]
    answer_ids: list[int]
    ended: bool
    text: str


@dataclass(frozen=True)
class TokenStatistics:
    """What a model says of the tokens of `b` answers.

    Attributes:
        log_probabilities: of the tokens, 0 behind the answers, shape `(b, t)`.
        entropies: of the distributions that they come from, 0 behind the answers, shape `(b, t)`.
        states: the last hidden state before each token, shape `(b, t, h)`.
        mask: where tokens are, shape `(b, t)`.
    """

    log_probabilities: torch.Tensor
    entropies: torch.Tensor
    states: torch.Tensor
    mask: torch.Tensor


def sample_answers(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    device: Device,
    seed: int,
    what: str | None,
) -> list[SampledAnswer]:
    """One sampled answer to each prompt, shape `(b,)`, in batches of prompts of similar length.

    Args:
        model: in evaluation mode.
        tokenizer: of the model, padding on the left.
        prompts: token ids.
        max_new_tokens: an answer is cut there.
        temperature: divides the logits.
        batch_size: prompts answered at a time.
        device: where and in which precision to run.
        seed: of the draws.
        what: name of the work, for the progress report; None: no report.
    """
    decoding = Decoding(
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=1.0, repetition_penalty=1.0, batch_size=batch_size
    )
    generated = generate_tokens(model, tokenizer, prompts, decoding, device, seed, what)
    texts = tokenizer.batch_decode([ids for ids, _ in generated], skip_special_tokens=True)
    return [
        SampledAnswer(list(prompt), ids, ended, text.strip())
        for prompt, (ids, ended), text in zip(prompts, generated, texts, strict=True)
    ]


def token_statistics(
    model: CausalLM,
    answers: Sequence[SampledAnswer],
    padding_id: int,
    temperature: float,
    batch_size: int,
    device: Device,
) -> TokenStatistics:
    """What a model says of the tokens of answers, with gradients where they are on.

    Rows are filled up on the right, so that positions are those without padding for every kind of model and adapter.
    Answers of like length go together, on a processor a few at a time: prompts with passages are four times as long as
    those without, and much of a larger batch would be padding.

    Args:
        model: in evaluation mode.
        answers: of any number.
        padding_id: fills short rows up.
        temperature: divides the logits.
        batch_size: answers in a forward pass at most.
        device: where and in which precision to run.
    """
    lengths = np.array([len(one.prompt_ids) + len(one.answer_ids) for one in answers], dtype=np.int64)
    batches = sorted_batches(lengths, rows_at_once(batch_size, device))
    parts = [
        _padded_statistics(model, [answers[row] for row in rows], padding_id, temperature, device) for rows in batches
    ]
    longest = max(part.mask.shape[1] for part in parts)
    as_given = torch.from_numpy(np.argsort(np.concatenate(batches))).to(device.device)

    def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
        wide = [nn.functional.pad(one, (0, 0) * (one.ndim - 2) + (0, longest - one.shape[1])) for one in tensors]
        return torch.cat(wide)[as_given]

    return TokenStatistics(
        joined([part.log_probabilities for part in parts]),
        joined([part.entropies for part in parts]),
        joined([part.states for part in parts]),
        joined([part.mask for part in parts]),
    )


def rows_at_once(rows: int, device: Device) -> int:
    """How many chats of a batch to send through a model at a time, where those of like length go together."""
    return min(rows, ROWS_ON_A_PROCESSOR) if device.device.type == "cpu" else rows


def _padded_statistics(
    model: CausalLM, answers: Sequence[SampledAnswer], padding_id: int, temperature: float, device: Device
) -> TokenStatistics:
    """`token_statistics` in one forward pass. Only the logits from the shortest prompt's end on are computed."""
    chats = [
        TokenisedChat(one.prompt_ids + one.answer_ids, [IGNORED] * len(one.prompt_ids) + one.answer_ids)
        for one in answers
    ]
    ids, labels, attention = padded(chats, padding_id, device.device)
    first = min(len(one.prompt_ids) for one in answers)
    kept = ids.shape[1] - first + 1
    with device.autocast():
        out = model(
            input_ids=ids, attention_mask=attention, logits_to_keep=kept, output_hidden_states=True, use_cache=False
        )
    # What stands at a token says the next one; the last has none. A learnt prompt comes before all of this.
    wanted = labels[:, first:]
    has_loss = wanted != IGNORED
    distributions = torch.log_softmax(out.logits[:, -kept:-1][has_loss].float() / temperature, dim=-1)
    lengths = torch.tensor([len(one.answer_ids) for one in answers], device=device.device)
    mask = torch.arange(int(lengths.max()), device=device.device) < lengths[:, None]
    states = out.hidden_states[-1][:, -kept:-1][has_loss]
    return TokenStatistics(
        _by_answer(distributions.gather(1, wanted[has_loss][:, None]).squeeze(1), mask),
        _by_answer(entropies(distributions), mask),
        _by_answer(states.float(), mask),
        mask,
    )


def _by_answer(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values of tokens one after the other, shape `(tokens, ...)`, in the places of a mask: shape `(b, t, ...)`."""
    out = values.new_zeros((*mask.shape, *values.shape[1:]))
    out[mask] = values
    return out
