"""How far a reward model can be trusted, on held-out pairs of a better and a worse answer.

- Accuracy over all and by source, a tie as half, with a 95% interval: Wilson's where each prompt has one pair, else a
  bootstrap of prompts, whose pairs are not independent.
- Length bias: whether the longer answer wins more often than it should (Singhal et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.language_models.chat_template import add_answers
from assay.reward.model import RewardModel, score_answers
from assay.statistics.bootstrap import cluster_means
from assay.statistics.intervals import wilson_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics


@dataclass(frozen=True)
class Margins:
    """Rewards of the better and the worse answers of `n` held-out pairs, shape `(n,)` each."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]

    @property
    def margin(self) -> NDArray[np.float64]:
        """By how much the better answer is ahead, shape `(n,)`."""
        return self.chosen - self.rejected

    @property
    def right(self) -> NDArray[np.float64]:
        """1 where the better answer is ahead, 0.5 at a tie, shape `(n,)`."""
        return (np.sign(self.margin) + 1) / 2


def score_sides(
    model: RewardModel, tokenizer: PreTrainedTokenizerBase, pairs: pl.DataFrame, batch_size: int, device: Device
) -> Margins:
    """What a reward model says of pairs, with at most `batch_size` chats in a forward pass."""
    chats = [chat for side in ("chosen", "rejected") for chat in add_answers(pairs["messages"], pairs[side])]
    scores = score_answers(model, tokenizer, chats, batch_size, device, "held-out pairs")
    return Margins(scores[: pairs.height], scores[pairs.height :])


def estimate_accuracy(
    right: NDArray[np.float64], prompts: Sequence[str], samples: int, random: np.random.Generator
) -> Estimate:
    """Share of pairs that are `right` (1, 0, or 0.5 at a tie, shape `(n,)`, `n` at least 1), with its 95% interval.

    Wilson's (1927) where each prompt has one pair and none is a tie, else a bootstrap of prompts; none of one prompt.
    """
    if len(set(prompts)) == len(right) and not np.any(right == 0.5):
        return wilson_estimate(int(right.sum()), len(right))
    return cluster_means({"accuracy": right}, prompts, samples, random)["accuracy"]


def measure_length_bias(
    said: Margins, chosen_tokens: NDArray[np.int64], rejected_tokens: NDArray[np.int64]
) -> dict[str, float]:
    """Of pairs of unequal length, how many, the share in which the longer answer is ahead, and in which it should be.

    Tokens of the answers are of shape `(n,)`. Without such pairs the shares are missing.
    """
    longer, unequal = chosen_tokens > rejected_tokens, chosen_tokens != rejected_tokens
    if not unequal.any():
        return {"pairs_of_unequal_length": 0.0}
    return {
        "pairs_of_unequal_length": float(unequal.sum()),
        "longer_wins": float(np.where(longer, said.right, 1 - said.right)[unequal].mean()),
        "longer_should_win": float(longer[unequal].mean()),
    }


def summarise_held_out(
    pairs: pl.DataFrame,
    said: Margins,
    answer_tokens: dict[str, NDArray[np.int64]],
    samples: int,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Metrics of held-out pairs (`prompt_id`, `pair_source`).

    `answer_tokens` are those of both sides, `chosen` and `rejected`, shape `(n,)` each.
    """

    def part(rows: NDArray[np.bool_]) -> dict[str, float]:
        prompts = pairs["prompt_id"].filter(pl.Series(rows)).to_list()
        return {
            "pairs": int(rows.sum()),
            **interval_metrics("accuracy", estimate_accuracy(said.right[rows], prompts, samples, random)),
            "mean_margin": float(said.margin[rows].mean()),
        }

    everything = np.ones(pairs.height, dtype=np.bool_)
    return {
        **part(everything),
        "by_source": {
            name: part((pairs["pair_source"] == name).to_numpy()) for name in sorted(pairs["pair_source"].unique())
        },
        "length_bias": measure_length_bias(said, answer_tokens["chosen"], answer_tokens["rejected"]),
        "mean_reward_chosen": float(said.chosen.mean()),
        "mean_reward_rejected": float(said.rejected.mean()),
        "ties": int((said.margin == 0).sum()),
    }
