"""Scores of a language model over test questions, and differences of two models on the same questions, with intervals.

Legend: `n` test rows, `b` bootstrap samples. Scores are means over the rows that have them, but perplexity:
that is exp of the mean negative log-likelihood of a token of the reference answers, so that long answers count more.
Each mode in which questions are asked (`assay/instruction_data/prompt_modes.py`) is scored by itself. Rows of one group
(questions that mean the same) are drawn together. Fewer than `MIN_ROWS` rows have no interval, and no interval has zero
width: samples that all give the same figure say nothing of other rows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.generation_metrics.answers import find_refusal, score_texts
from assay.statistics.bootstrap import Measure, bootstrap_figures, item_counts
from assay.statistics.intervals import MIN_SHARE_ROWS, Floats, share_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics, metrics_of
from assay.statistics.predictions import hash_name
from assay.statistics.verdicts import Difference, holm, paired_difference, word

SHARES = ("refused", "ended", "exact_match")
"""Scores that are true or false of a row: counted, with Wilson's interval."""
ANSWERED = ("chrf", "refused", "tokens", "ended", "reward")
MEANS: Mapping[str, tuple[str, ...]] = {
    "open": ANSWERED,
    "retrieved": ANSWERED,
    "closed": ANSWERED,
    "unanswerable": ANSWERED[1:],
    "label": ("exact_match",),
}
"""The scores of each mode that are means over rows; a row where a score is null does not count for it. Without a reward
model there is no column `reward`, and where a model does not answer itself there is perplexity alone."""

MODES = tuple(MEANS)
COPIED = ("open", "retrieved")
"""Modes in which passages that may hold the answer are shown, so that one can be copied."""
COPY_NEAREST = "copy_nearest"
MIN_ROWS = MIN_SHARE_ROWS
Random = Callable[[str], np.random.Generator]
"""The generator of a mode."""


def perplexity(counts: Floats, negative_log_likelihood: Floats, tokens: Floats) -> Floats:
    """Perplexity under given counts of the rows, shape `(n, b)` → `(b,)`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Floats = np.exp(negative_log_likelihood @ counts / (tokens @ counts))
    return value


def mean(counts: Floats, values: Floats) -> Floats:
    """Mean under given counts of the rows that have a value, shape `(n, b)` → `(b,)`."""
    has = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Floats = np.where(has, values, 0.0) @ counts / (has.astype(np.float64) @ counts)
    return value


def column(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """A column of numbers or truth values, null as NaN."""
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def told(estimate: Estimate, rows: int) -> Estimate:
    """A figure of so many rows, without its interval where they are too few."""
    return estimate if rows >= MIN_ROWS else Estimate(estimate.value, None, None)


def _figures(
    rows: pl.DataFrame, of_all: Measure, values: Mapping[str, Floats], samples: int, random: np.random.Generator
) -> dict[str, float]:
    """Figures of all rows and means of values, shape `(n,)` each, as metrics; groups of rows are drawn whole."""
    names, of_row = np.unique(rows["group"].to_numpy(), return_inverse=True)

    def measure(of_groups: Floats) -> dict[str, Floats]:
        counts = of_groups[of_row]
        return of_all(counts) | {name: mean(counts, one) for name, one in values.items()}

    found = bootstrap_figures(measure, len(names), samples, random)
    used = dict.fromkeys(found, rows.height) | {name: int((~np.isnan(one)).sum()) for name, one in values.items()}
    return metrics_of({name: told(one, used[name]) for name, one in found.items()})


def task_scores(answers: pl.DataFrame, mode: str, samples: int, random: np.random.Generator) -> dict[str, Any]:
    """Scores of one mode with their 95% intervals, from `samples` bootstrap samples.

    Answers have `mode`, `group`, `negative_log_likelihood`, `reference_tokens`, `answer_in_context`, and a column for
    each score. With a generator in the same state for every model, all see the same resampled rows. Beside a share
    stands `<score>_count`; its interval is Wilson's.
    """
    rows = answers.filter(pl.col("mode") == mode)
    losses, tokens = column(rows, "negative_log_likelihood"), column(rows, "reference_tokens")
    names = [name for name in MEANS[mode] if name in rows.columns]
    means = {name: column(rows, name) for name in names if name not in SHARES}
    found = _figures(rows, lambda counts: {"perplexity": perplexity(counts, losses, tokens)}, means, samples, random)
    shares: dict[str, Any] = {}
    for name in (name for name in names if name in SHARES):
        has = rows.drop_nulls(name)
        if has.height:
            groups = np.unique(has["group"].to_numpy(), return_inverse=True)[1].astype(np.int64)
            shares[f"{name}_count"], shares[f"{name}_rows"] = int(has[name].sum()), has.height
            shares |= metrics_of({name: told(share_estimate(column(has, name), groups), has.height)})
    held = {"held": int(rows["answer_in_context"].sum())} if mode == "retrieved" else {}
    return {"rows": rows.height, "answered": rows["answer"].count(), **held, **found, **shares}


def score_modes(answers: pl.DataFrame, samples: int, random: Random) -> dict[str, dict[str, Any]]:
    """`task_scores` of each mode that the rows have."""
    return {mode: task_scores(answers, mode, samples, random(mode)) for mode in MODES if mode in answers["mode"]}


def _pair(answers: pl.DataFrame, others: pl.DataFrame, mode: str) -> pl.DataFrame:
    """The rows of two models in a mode side by side, the other's columns with `_other`."""
    of_mode = answers.filter(pl.col("mode") == mode)
    return of_mode.join(others, on=["id", "mode"], suffix="_other", maintain_order="left")


def task_differences(
    answers: pl.DataFrame, others: pl.DataFrame, mode: str, samples: int, random: np.random.Generator
) -> dict[str, Any]:
    """What one model's scores are above another's on the same rows of a mode, with paired 95% intervals.

    `<score>_difference`, and `perplexity_ratio` (below 1: the one is less surprised); `reward_win_rate`: the share of
    rows on which the reward model prefers the one; ties count as half, the same answer from both among them. Arguments
    as of `task_scores`; both tables have `id` and `answer` too.
    """
    names = [name for name in MEANS[mode] if name in answers.columns and name in others.columns]
    pairs = _pair(answers, others, mode)
    losses, tokens = column(pairs, "negative_log_likelihood"), column(pairs, "reference_tokens")
    other_losses = column(pairs, "negative_log_likelihood_other")
    differences = {f"{name}_difference": column(pairs, name) - column(pairs, f"{name}_other") for name in names}
    if "reward" in names:
        # In a batch with other rows the same answer gets a reward that differs in its last digits.
        same = (pairs["answer"] == pairs["answer_other"]).fill_null(False).to_numpy()
        above = (np.sign(differences["reward_difference"]) + 1) / 2
        differences["reward_win_rate"] = np.where(same & ~np.isnan(above), 0.5, above)

    def perplexities(counts: Floats) -> dict[str, Floats]:
        one, other = perplexity(counts, losses, tokens), perplexity(counts, other_losses, tokens)
        return {"perplexity_ratio": one / other}

    return {"rows": pairs.height, **_figures(pairs, perplexities, differences, samples, random)}


def baseline_answers(answers: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What needs no model says to the same rows, in their order, scored as answers are; null where it says nothing.

    Copying the shown passage nearest to the question by the frozen encoder, or the first; refusing always, where there
    are refusals; and the label that most train rows have.
    """
    refusal = find_refusal(answers)
    rows = answers.select(pl.exclude("answer", *SHARES, *ANSWERED)).with_columns(
        negative_log_likelihood=pl.lit(None, pl.Float64)
    )
    passages = pl.col("context").list.get(pl.col("nearest"), null_on_oob=True)
    said = {
        COPY_NEAREST: pl.when(pl.col("mode").is_in(MODES[:4])).then(passages),
        "copy_first": pl.when(pl.col("mode").is_in(MODES[:4])).then(pl.col("context").list.first()),
        "always_refuse": pl.when(pl.col("mode") != "label").then(pl.lit(refusal or None, pl.String)),
        "majority_label": pl.when(pl.col("mode") == "label").then(pl.col("labels").list.first()),
    }
    return {name: score_texts(rows.with_columns(answer=answer), refusal) for name, answer in said.items()}


def beside_copying(
    models: Mapping[str, pl.DataFrame], copied: pl.DataFrame, samples: int, random: Random
) -> dict[str, dict[str, Any]]:
    """By mode and model, how far its chrF is above that of copying the nearest passage, and the word for it.

    Paired, over groups; p has Holm's correction over all models and modes. Fewer than `MIN_ROWS` rows decide nothing.
    """
    found: dict[tuple[str, str], tuple[int, Difference]] = {}
    for mode, (name, table) in ((mode, one) for mode in COPIED for one in models.items()):
        pairs = _pair(table, copied, mode).drop_nulls(["chrf", "chrf_other"])
        if pairs.height >= MIN_ROWS:
            # By hash, as the scores by question in git have the groups: they give the same samples.
            names, of_row = np.unique([hash_name(group) for group in pairs["group"]], return_inverse=True)
            parts = [np.ones((len(names), 1)), *item_counts(len(names), samples, random(mode))]
            counts = np.concatenate(parts, axis=1)[of_row]
            one, other = (mean(counts, column(pairs, of)) for of in ("chrf", "chrf_other"))
            found[mode, name] = pairs.height, paired_difference(one, other)
    adjusted = holm([one.p for _, one in found.values()])
    out: dict[str, dict[str, Any]] = {}
    for ((mode, name), (rows, difference)), p in zip(found.items(), adjusted, strict=True):
        out.setdefault(mode, {})[name] = {
            "rows": rows,
            **interval_metrics("chrf_difference", Estimate(difference.value, difference.low, difference.high)),
            "p": difference.p,
            "adjusted_p": p,
            "minimum_detectable": difference.minimum_detectable,
            "word": word(difference, p),
        }
    return out
