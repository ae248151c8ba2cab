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
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence

from assay.compute.device import Device
from assay.compute.token_batches import sorted_batches
from assay.core.params import Params
from assay.language_models.chat_template import IGNORED, TokenisedChat
from assay.language_models.checkpoint import Decoding, generate_tokens, pad_chats
from assay.reinforcement.policy import Policy, as_reference, has_moved
from assay.reinforcement.ppo_equations import entropies

ROWS_ON_CPU = 4
"""Chats of similar length in a forward pass: fewer have less padding, and cast the weights more often."""


class Sampling(Params):
    """How a policy is sampled; `batch_size` is the number of answers at a time where no gradients are taken."""

    max_new_tokens: int = Field(ge=1, le=131072)
    temperature: float = Field(gt=0, le=10)
    batch_size: int = Field(ge=1, le=65536)


@dataclass(frozen=True)
class SampledAnswer:
    """One answer: at least one token, with the one that ends it if it `ended`; else it was cut."""

    prompt_ids: list[int]
    answer_ids: list[int]
    ended: bool
    text: str


@dataclass(frozen=True)
class TokenStatistics:
    """What a model says of the tokens of `b` answers, shape `(b, t)` each, 0 behind the answers, where `mask` is false.

    Entropies are of the distributions that the tokens come from, `states` the last hidden states before them, shape
    `(b, t, h)`.
    """

    log_probabilities: torch.Tensor
    entropies: torch.Tensor
    states: torch.Tensor
    mask: torch.Tensor


def sample_answers(
    policy: Policy, prompts: Sequence[list[int]], sampling: Sampling, device: Device, seed: int, what: str | None
) -> list[SampledAnswer]:
    """One sampled answer to each prompt; without `what` there is no progress report."""
    decoding = Decoding(**sampling.model_dump(include=set(Sampling.model_fields)), top_p=1.0, repetition_penalty=1.0)
    generated = generate_tokens(policy.model, policy.tokenizer, prompts, decoding, device, seed, what)
    texts = policy.tokenizer.batch_decode([ids for ids, _ in generated], skip_special_tokens=True)
    return [
        SampledAnswer(list(prompt), ids, ended, text.strip())
        for prompt, (ids, ended), text in zip(prompts, generated, texts, strict=True)
    ]


@torch.no_grad()
def frozen_statistics(
    policy: Policy, answers: Sequence[SampledAnswer], sampling: Sampling, device: Device
) -> TokenStatistics:
    """`token_statistics` of a policy as it is now, without gradients."""
    return token_statistics(policy, answers, sampling.temperature, sampling.batch_size, device)


def reference_log_probabilities(
    policy: Policy, answers: Sequence[SampledAnswer], now: TokenStatistics, sampling: Sampling, device: Device
) -> torch.Tensor:
    """How likely the reference finds the tokens of answers, shape `(b, t)`; before the policy has moved, as `now`."""
    if not has_moved(policy):
        return now.log_probabilities
    with as_reference(policy):
        return frozen_statistics(policy, answers, sampling, device).log_probabilities


def token_statistics(
    policy: Policy, answers: Sequence[SampledAnswer], temperature: float, batch_size: int, device: Device
) -> TokenStatistics:
    """What a policy in evaluation mode says of the tokens of answers, with gradients where they are on.

    Rows are padded on the right, so that positions are those without padding for every kind of model and adapter.
    Answers of similar length go together, on CPU a few at a time: prompts with context are four times as long as those
    without, and much of a larger batch would be padding.
    """
    lengths = np.array([len(one.prompt_ids) + len(one.answer_ids) for one in answers], dtype=np.int64)
    batches = sorted_batches(lengths, rows_at_once(batch_size, device))
    parts = [_padded_statistics(policy, [answers[row] for row in rows], temperature, device) for rows in batches]
    as_given = np.argsort(np.concatenate(batches))
    columns = ([one for part in column for one in part] for column in zip(*parts, strict=True))
    log_probabilities, entropies, states = (
        pad_sequence([column[row] for row in as_given], batch_first=True) for column in columns
    )
    answer_lengths = torch.tensor([len(one.answer_ids) for one in answers], device=device.device)
    mask = torch.arange(states.shape[1], device=device.device) < answer_lengths[:, None]
    return TokenStatistics(log_probabilities, entropies, states, mask)


def rows_at_once(rows: int, device: Device) -> int:
    """How many chats of a batch to send through a model at a time, where those of similar length go together."""
    return min(rows, ROWS_ON_CPU) if device.device.type == "cpu" else rows


def _padded_statistics(
    policy: Policy, answers: Sequence[SampledAnswer], temperature: float, device: Device
) -> list[tuple[torch.Tensor, ...]]:
    """Log probabilities, entropies and states of the tokens of each answer, shape `(t, ...)`, in one forward pass.

    Only the logits from the shortest prompt's end on are computed.
    """
    chats = [
        TokenisedChat(one.prompt_ids + one.answer_ids, [IGNORED] * len(one.prompt_ids) + one.answer_ids)
        for one in answers
    ]
    ids, labels, attention = pad_chats(chats, int(policy.tokenizer.pad_token_id), device.device)
    first = min(len(one.prompt_ids) for one in answers)
    kept = ids.shape[1] - first + 1
    with device.autocast():
        out = policy.model(
            input_ids=ids, attention_mask=attention, logits_to_keep=kept, output_hidden_states=True, use_cache=False
        )
    # What stands at a token says the next one; the last has none. A soft prompt comes before all of this.
    wanted = labels[:, first:]
    has_loss = wanted != IGNORED
    distributions = torch.log_softmax(out.logits[:, -kept:-1][has_loss].float() / temperature, dim=-1)
    log_probabilities = distributions.gather(1, wanted[has_loss][:, None]).squeeze(1)
    states = out.hidden_states[-1][:, -kept:-1][has_loss].float()
    lengths = [len(one.answer_ids) for one in answers]
    return [column.split(lengths) for column in (log_probabilities, entropies(distributions), states)]
