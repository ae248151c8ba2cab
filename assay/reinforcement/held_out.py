"""The reward of a policy's answers on prompts that it was not trained on, before training and after.

Both times the same prompts are answered, from draws of the same seed, so that the comparison is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.seeds import SeedKey, keyed_uniform
from assay.language_models.chat_template import Message, add_answers, tokenise_prompts
from assay.reinforcement.policy import Policy, has_moved
from assay.reinforcement.ppo_equations import kl_k1, kl_k3
from assay.reinforcement.rollouts import (
    Sampling,
    frozen_statistics,
    reference_log_probabilities,
    rows_at_once,
    sample_answers,
)
from assay.reward.model import load_reward_model, score_answers
from assay.statistics.bootstrap import bootstrap_figures
from assay.statistics.intervals import Floats
from assay.statistics.metrics_dict import metrics_of

TASKS = ("answer", "unanswerable")
"""Chats whose answers are rewarded. The answer to a `label` chat is right or wrong, and needs no model to say so."""

Score = Callable[[Sequence[Sequence[Message]], Sequence[str]], NDArray[np.float64]]
"""From chats that do not end with an answer, and an answer to each, to rewards, shape `(b,)`."""


class PolicyParams(Sampling):
    """What the sections `ppo` and `rloo` share beside their training, which starts from `models/sft/<init>`.

    Nothing starts below `min_reward_accuracy` on held-out pairs; longer prompts are skipped; the held-out ones, of the
    validation split, are answered before and after.
    """

    init: str = Field(min_length=1)
    min_reward_accuracy: float = Field(ge=0, le=1)
    max_prompt_tokens: int = Field(ge=1, le=131072)
    held_out_prompts: int = Field(ge=2, le=1_000_000)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


@dataclass(frozen=True)
class Prompts:
    """Chats without their last answer, shape `(n,)` each; `too_long` were skipped for their length."""

    ids: list[str]
    chats: list[list[dict[str, str]]]
    token_ids: list[list[int]]
    too_long: int


@dataclass(frozen=True)
class HeldOutScores:
    """Of `n` answers, shape `(n,)` each; `kl` is to the reference, nats an answer, by the estimator k1."""

    rewards: NDArray[np.float64]
    kl: NDArray[np.float64]
    kl_k3: NDArray[np.float64]
    tokens: NDArray[np.float64]
    ended: NDArray[np.float64]


def require_reward_accuracy(metrics: Path, minimum: float, section: str) -> float:
    """The reward model's accuracy on held-out pairs; an `InputError` if there is no reward model, or it is too low."""
    if not metrics.is_file():
        raise InputError(
            f"{metrics}: no such file, and `{section}` is trained by the reward model: set `optional.reward` in "
            f"params.yaml to [default] (it needs `optional.preferences`), or `optional.{section}` to []"
        )
    accuracy = float(read_json(metrics)["accuracy"])
    if accuracy < minimum:
        raise InputError(
            f"{metrics}: the reward model is right on {accuracy:.3f} of held-out pairs, and "
            f"`{section}.min_reward_accuracy` asks for {minimum}: a policy would learn its mistakes. Give `reward` "
            "more pairs, more steps or a larger base, or lower that"
        )
    return accuracy


def read_prompts(
    path: Path, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, rows: int | None, key: SeedKey
) -> Prompts:
    """Chats of the tasks `TASKS` in a chat table, without their last answer; an `InputError` if none is short enough.

    So many `rows` (None: all) are sampled by a hash of their ids: a prompt keeps its draw when others are added.
    """
    table = pl.read_parquet(path, columns=["id", "task", "messages"]).filter(pl.col("task").is_in(TASKS))
    chats = [messages[:-1] for messages in table["messages"].to_list()]
    tokens = tokenise_prompts(tokenizer, chats)
    fits = np.array([len(ids) <= max_prompt_tokens for ids in tokens], dtype=bool)
    kept = np.flatnonzero(fits)
    if not len(kept):
        raise InputError(
            f"{path}: of {table.height} prompts none has at most {max_prompt_tokens} tokens; raise `max_prompt_tokens`"
        )
    if rows is not None:
        draws = keyed_uniform(table["id"], *key, "prompts").to_numpy()
        kept = np.sort(kept[np.argsort(draws[kept], kind="stable")][:rows])
    ids = table["id"].to_list()
    return Prompts(
        [ids[row] for row in kept], [chats[row] for row in kept], [tokens[row] for row in kept], int((~fits).sum())
    )


def reward_function(folder: Path, batch_size: int, device: Device) -> Score:
    """The reward model of a folder as a function of chats and answers, with at most `batch_size` in a forward pass."""
    model, tokenizer = load_reward_model(folder, device.device)

    def score(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
        rows = rows_at_once(batch_size, device)
        return score_answers(model, tokenizer, add_answers(chats, answers), rows, device, None)

    return score


def measure_held_out(
    policy: Policy, prompts: Prompts, score: Score, sampling: Sampling, device: Device, seed: int
) -> HeldOutScores:
    """Sample an answer to each held-out prompt and score it."""
    policy.model.eval()
    answers = sample_answers(policy, prompts.token_ids, sampling, device, seed, "held-out answers")
    kl = np.zeros((2, len(answers)))
    if has_moved(policy):
        now = frozen_statistics(policy, answers, sampling, device)
        reference = reference_log_probabilities(policy, answers, now, sampling, device)
        for row, estimator in enumerate((kl_k1, kl_k3)):
            of_tokens = estimator(now.log_probabilities, reference) * now.mask
            kl[row] = of_tokens.sum(dim=1).double().cpu().numpy()
    return HeldOutScores(
        score(prompts.chats, [one.text for one in answers]),
        kl[0],
        kl[1],
        np.array([len(one.answer_ids) for one in answers], dtype=np.float64),
        np.array([one.ended for one in answers], dtype=np.float64),
    )


def compare_policies(
    before: HeldOutScores, after: HeldOutScores, samples: int, random: np.random.Generator
) -> dict[str, float]:
    """Metrics of a policy before and after training on the same prompts, with paired 95% bootstrap intervals."""
    items = np.stack([before.rewards, after.rewards, after.rewards - before.rewards, after.kl, after.kl_k3])
    names = ("reward_before", "reward_after", "reward_difference", "kl_to_reference", "kl_to_reference_k3")

    def means(counts: Floats) -> dict[str, Floats]:
        return dict(zip(names, items @ counts / counts.sum(axis=0), strict=True))

    estimates = bootstrap_figures(means, len(before.rewards), samples, random)
    metrics: dict[str, float] = {"held_out_prompts": len(before.rewards), **metrics_of(estimates)}
    for name, held in (("before", before), ("after", after)):
        metrics[f"answer_tokens_{name}"] = float(held.tokens.mean())
        metrics[f"ended_share_{name}"] = float(held.ended.mean())
    return metrics
