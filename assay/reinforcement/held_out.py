"""What the reward model says of a policy's answers on prompts that it was not trained on, before training and after.

Both times the same prompts are answered, from draws of the same seed, so that the comparison is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.seeds import keyed_uniform
from assay.language_models.chat_template import ANSWERING, Message, tokenised_prompts
from assay.reinforcement.policy import Policy, has_moved
from assay.reinforcement.ppo_equations import kl_k1, kl_k3
from assay.reinforcement.ppo_loop import Score, frozen_statistics, reference_log_probabilities
from assay.reinforcement.rollouts import rows_at_once, sample_answers
from assay.reward.model import load_reward_model, rewards
from assay.statistics.bootstrap import Floats, bootstrap_figures

TASKS = ("answer", "unanswerable")
"""Chats whose answers are rewarded. The answer to a `label` chat is right or wrong, and needs no model to say so."""


@dataclass(frozen=True)
class Prompts:
    """Chats without their last answer.

    Attributes:
        ids: of the chats, shape `(n,)`.
        chats: shape `(n,)`.
        token_ids: shape `(n,)`.
        too_long: how many were left out for their length.
    """

    ids: list[str]
    chats: list[list[dict[str, str]]]
    token_ids: list[list[int]]
    too_long: int


@dataclass(frozen=True)
class HeldOutScores:
    """Of `n` answers.

    Attributes:
        rewards: of the reward model, shape `(n,)`.
        kl: to the reference, nats an answer, by the estimator k1, shape `(n,)`.
        kl_k3: the same by k3, shape `(n,)`.
        tokens: shape `(n,)`.
        ended: whether an answer ends, shape `(n,)`.
    """

    rewards: NDArray[np.float64]
    kl: NDArray[np.float64]
    kl_k3: NDArray[np.float64]
    tokens: NDArray[np.float64]
    ended: NDArray[np.float64]


def require_reward_accuracy(metrics: Path, minimum: float, section: str) -> float:
    """The reward model's accuracy on held-out pairs.

    Args:
        metrics: of the stage `reward`.
        minimum: that it must have.
        section: of the params, for the message.

    Raises:
        InputError: it has less.
    """
    accuracy = float(read_json(metrics)["accuracy"])
    if accuracy < minimum:
        raise InputError(
            f"{metrics}: the reward model is right on {accuracy:.3f} of held-out pairs, and "
            f"`{section}.min_reward_accuracy` asks for {minimum}: a policy would learn its mistakes. Give `reward` "
            "more pairs, more steps or a larger base, or lower that"
        )
    return accuracy


def read_prompts(
    path: Path, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, rows: int | None, seed: int
) -> Prompts:
    """Chats of the tasks `TASKS`, without their last answer.

    Args:
        path: of a chat table.
        tokenizer: of the policy.
        max_prompt_tokens: longer ones are left out, and counted.
        rows: so many, drawn by key: a prompt keeps its draw when others are added; None: all.
        seed: of the draw.

    Raises:
        InputError: none is left.
    """
    table = pl.read_parquet(path, columns=["id", "task", "messages"]).filter(pl.col("task").is_in(TASKS))
    chats = [messages[:-1] for messages in table["messages"].to_list()]
    tokens = tokenised_prompts(tokenizer, chats)
    fits = np.array([len(ids) <= max_prompt_tokens for ids in tokens], dtype=bool)
    kept = np.flatnonzero(fits)
    if not len(kept):
        raise InputError(
            f"{path}: of {table.height} prompts none has at most {max_prompt_tokens} tokens; raise `max_prompt_tokens`"
        )
    if rows is not None:
        draws = keyed_uniform(table["id"], seed, "prompts").to_numpy()
        kept = np.sort(kept[np.argsort(draws[kept], kind="stable")][:rows])
    ids = table["id"].to_list()
    return Prompts(
        [ids[row] for row in kept],
        [chats[row] for row in kept],
        [tokens[row] for row in kept],
        int((~fits).sum()),
    )


def reward_function(folder: Path, batch_size: int, device: Device) -> Score:
    """What the reward model of a folder says of answers to chats.

    Args:
        folder: of the reward model.
        batch_size: chats in a forward pass at most.
        device: where and in which precision to run.
    """
    model, tokenizer = load_reward_model(folder, device.device)

    def score(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
        whole = [[*chat, {"role": ANSWERING, "content": answer}] for chat, answer in zip(chats, answers, strict=True)]
        return rewards(model, tokenizer, whole, rows_at_once(batch_size, device), device, None)

    return score


def held_out_scores(
    policy: Policy,
    prompts: Prompts,
    score: Score,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    device: Device,
    seed: int,
) -> HeldOutScores:
    """Answers that a policy samples to held-out prompts, and what is to be said of them.

    Args:
        policy: as it is now.
        prompts: held out.
        score: what rewards answers.
        max_new_tokens: an answer is cut there.
        temperature: of the sampling.
        batch_size: answers at a time.
        device: where and in which precision to run.
        seed: of the draws.
    """
    policy.model.eval()
    answers = sample_answers(
        policy.model, policy.tokenizer, prompts.token_ids, max_new_tokens, temperature, batch_size, device, seed,
        "held-out answers",
    )  # fmt: skip
    kl = np.zeros((2, len(answers)))
    if has_moved(policy):
        now = frozen_statistics(policy, answers, temperature, batch_size, device)
        reference = reference_log_probabilities(policy, answers, now, temperature, batch_size, device)
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


def compared(
    before: HeldOutScores, after: HeldOutScores, samples: int, random: np.random.Generator
) -> dict[str, float]:
    """Metrics of a policy before and after, the reward and its paired difference with 95% bootstrap intervals.

    Args:
        before: of the policy that training began with.
        after: of the trained one, on the same prompts.
        samples: of the bootstrap.
        random: source of the resampling.
    """
    items = np.stack([before.rewards, after.rewards, after.rewards - before.rewards, after.kl, after.kl_k3])
    names = ("reward_before", "reward_after", "reward_difference", "kl_to_reference", "kl_to_reference_k3")

    def means(counts: Floats) -> dict[str, Floats]:
        return dict(zip(names, items @ counts / counts.sum(axis=0), strict=True))

    metrics: dict[str, float] = {"held_out_prompts": len(before.rewards)}
    for name, estimate in bootstrap_figures(means, len(before.rewards), samples, random).items():
        metrics[name] = estimate.value
        if estimate.low is not None and estimate.high is not None:
            metrics[f"{name}_ci95_low"] = estimate.low
            metrics[f"{name}_ci95_high"] = estimate.high
    for name, held in (("before", before), ("after", after)):
        metrics[f"answer_tokens_{name}"] = float(held.tokens.mean())
        metrics[f"ended_share_{name}"] = float(held.ended.mean())
    return metrics
