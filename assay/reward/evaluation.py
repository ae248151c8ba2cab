"""How far a reward model can be trusted, on held-out pairs of a better and a worse answer.

- Accuracy over all and by source, a tie as half, with a 95% interval: Wilson's where each prompt has one pair, else a
  bootstrap of prompts, whose pairs are not independent.
- Calibration: whether pairs on which sigmoid(|margin|) says 80% are right in 80% of cases (Guo et al. 2017,
  equation 3).
- Length bias: whether the longer answer wins more often than it should (Singhal et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import spearmanr
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.language_models.chat_template import Message, add_answers
from assay.reward.model import RewardModel, score_answers
from assay.statistics.bootstrap import cluster_means
from assay.statistics.calibration import reliability_table
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


def add_side(pairs: pl.DataFrame, side: str) -> list[list[Message]]:
    """The chats of pairs, each with the answer of one side (`chosen` or `rejected`)."""
    return add_answers(pairs["messages"], pairs[side])


def score_sides(
    model: RewardModel, tokenizer: PreTrainedTokenizerBase, pairs: pl.DataFrame, batch_size: int, device: Device
) -> Margins:
    """What a reward model says of pairs, with at most `batch_size` chats in a forward pass."""
    chats = [*add_side(pairs, "chosen"), *add_side(pairs, "rejected")]
    scores = score_answers(model, tokenizer, chats, batch_size, device, "held-out pairs")
    return Margins(scores[: pairs.height], scores[pairs.height :])


def estimate_accuracy(
    right: NDArray[np.float64], prompts: Sequence[str], samples: int, random: np.random.Generator
) -> Estimate:
    """Share of pairs that are `right` (1, 0, or 0.5 at a tie, shape `(n,)`, `n` at least 1), with its 95% interval.

    Wilson's (1927) where each prompt has one pair and none is a tie, else a bootstrap of prompts.
    """
    if len(set(prompts)) == len(right) and not np.any(right == 0.5):
        return wilson_estimate(int(right.sum()), len(right))
    found = cluster_means({"accuracy": right}, prompts, samples, random)["accuracy"]
    return Estimate(found.value, found.value, found.value) if found.low is None else found


def calibrate(margin: NDArray[np.float64], bins: int) -> tuple[float, pl.DataFrame]:
    """How far sigmoid(|margin|), with margins of shape `(n,)`, is from the share of pairs that are right.

    Returns the expected calibration error (Guo et al. 2017, equation 3), and of each bin with pairs `confidence`,
    `accuracy` and `pairs`; the bins are of equal width over the confidence, which is between 0.5 and 1.
    """
    confidence = 1 / (1 + np.exp(-np.abs(margin)))
    right = (np.sign(margin) + 1) / 2
    table = reliability_table(confidence, right, bins, lowest=0.5).rename({"rows": "pairs"})
    gap = (pl.col("confidence") - pl.col("accuracy")).abs() * pl.col("pairs")
    return float(table.select(gap.sum()).item() / len(margin)), table


def measure_length_bias(
    said: Margins, chosen_tokens: NDArray[np.int64], rejected_tokens: NDArray[np.int64]
) -> dict[str, float]:
    """Whether length alone wins; tokens of the answers have shape `(n,)`.

    Of pairs of unequal length, the share in which the longer answer is ahead and that in which it should be; the
    accuracy where the better answer is the longer and where it is the shorter; Spearman's correlation of reward and
    length over all answers. What is undefined is missing.
    """
    longer, shorter = chosen_tokens > rejected_tokens, chosen_tokens < rejected_tokens
    unequal = longer | shorter
    figures = {"pairs_of_unequal_length": float(unequal.sum())}
    if unequal.any():
        figures["longer_wins"] = float(np.where(longer, said.right, 1 - said.right)[unequal].mean())
        figures["longer_should_win"] = float(longer[unequal].mean())
    for name, rows in (("chosen_longer", longer), ("chosen_shorter", shorter)):
        if rows.any():
            figures[f"accuracy_{name}"] = float(said.right[rows].mean())
    lengths = np.concatenate([chosen_tokens, rejected_tokens])
    scores = np.concatenate([said.chosen, said.rejected])
    if len(set(lengths)) > 1 and len(set(scores)) > 1:
        figures["reward_length_correlation"] = float(spearmanr(scores, lengths).statistic)
    return figures


def summarise_held_out(
    pairs: pl.DataFrame,
    said: Margins,
    answer_tokens: dict[str, NDArray[np.int64]],
    bins: int,
    samples: int,
    random: np.random.Generator,
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Metrics of held-out pairs (`prompt_id`, `pair_source`, `detail`), and the table of the reliability diagram.

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
    error, table = calibrate(said.margin, bins)
    kinds = pairs["detail"].str.extract(r"^([a-z_]+)")
    figures = {
        **part(everything),
        "by_source": {
            name: part((pairs["pair_source"] == name).to_numpy()) for name in sorted(pairs["pair_source"].unique())
        },
        # What was altered, or which sibling it was.
        "by_kind": {
            f"{source}_{kind}": part(((pairs["pair_source"] == source) & (kinds == kind)).to_numpy())
            for source in ("sibling_answer", "altered_answer")
            for kind in sorted(kinds.filter(pairs["pair_source"] == source).drop_nulls().unique())
        },
        "expected_calibration_error": error,
        "length_bias": measure_length_bias(said, answer_tokens["chosen"], answer_tokens["rejected"]),
        "mean_reward_chosen": float(said.chosen.mean()),
        "mean_reward_rejected": float(said.rejected.mean()),
        "ties": int((said.margin == 0).sum()),
    }
    return figures, table
