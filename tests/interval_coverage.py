"""Simulate how often the intervals and tests of the comparison are right, where the truth is known.

`python -m tests.interval_coverage` prints the table of `docs/statistics.md`; with `--write` it writes it to
`docs/statistics_coverage.json`. It takes minutes of one core; `--simulations 200` is a quick look.

Two models predict the rows of each simulated test set, and err on similar rows. A row's logits are noise, and that of
its true label has a margin on top, which differs by label. Both models, and the rows of a group (one to three), share a
part of the noise. The true scores are those of many rows. Both models are equally good, for coverage and false
findings, or the second has larger margins (a `gain`), for the coverage of a difference.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from statsmodels.stats.contingency_tables import mcnemar

from assay.core.errors import run_stage
from assay.core.outputs import write_json
from assay.core.progress import progress
from assay.statistics import verdicts
from assay.statistics.calibration import calibration_metrics
from assay.statistics.classification import score_predictions, score_probabilities
from assay.statistics.metrics_dict import Estimate
from assay.statistics.verdicts import LEVEL, Comparison, holm, score_decided_on

RESULTS = Path("docs/statistics_coverage.json")
SAMPLES = 400
"""Bootstrap samples of a simulated comparison, fewer than of a real one."""
TRUE_ROWS, TRUE_PARTS = 100_000, 4
SCORES = ("macro_f1", "accuracy", "brier_score", "log_loss")
TEMPERATURE = 2.0
"""Logits are multiplied by it, so that confidences are near those of a calibrated model."""
FAMILY = 10
"""Pairs whose p are corrected together."""
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A kind of test set: its rows and labels, the mean margin of the first model, how much more the second has (a
    share), and whether rows come in groups."""

    rows: int
    labels: int
    margin: float
    gain: float = 0.0
    grouped: bool = False

    def name(self) -> str:
        """Such as `rows 200, labels 3, margin 1.8, grouped`."""
        ends = [f"gain {self.gain:g}"] * (self.gain > 0) + ["grouped"] * self.grouped
        return ", ".join([f"rows {self.rows}", f"labels {self.labels}", f"margin {self.margin:g}", *ends])


CASES = (
    *(Case(rows, 3, margin, gain) for rows in (200, 2000) for margin, gain in ((1.8, 0.0), (2.8, 0.0), (1.8, 0.2))),
    *(Case(rows, 77, margin, gain) for rows in (200, 2000) for margin, gain in ((3.2, 0.0), (4.2, 0.0), (3.2, 0.1))),
    *(Case(rows, 3, 1.8, grouped=True) for rows in (200, 2000)),
)
"""Of three labels one is rare (13%); 77 are equally frequent."""


def draw_rows(case: Case, rows: int, random: np.random.Generator) -> tuple[Integers, Floats, Integers]:
    """Labels `(n,)`, logits of both models `(2, n, k)`, and groups `(n,)`."""
    k = case.labels
    priors = np.array([0.13, 0.3, 0.57]) if k == 3 else np.full(k, 1 / k)
    sizes = random.integers(1, 4, rows) if case.grouped else np.ones(rows, dtype=np.int64)
    groups = np.repeat(np.arange(rows), sizes)[:rows]
    truth = random.choice(k, rows, p=priors)[groups]
    shared = random.normal(size=(rows, k))
    if case.grouped:
        shared = np.sqrt(0.5) * (shared + random.normal(size=(rows, k))[groups])
    logits = np.sqrt(0.6) * shared + np.sqrt(0.4) * random.normal(size=(2, rows, k))
    margins = case.margin * (1 + 0.25 * np.sin(2.4 * np.arange(k)))
    for model, gain in enumerate((0.0, case.gain)):
        logits[model, np.arange(rows), truth] += margins[truth] * (1 + gain)
    return truth, logits, groups


def score_model(truth: Integers, logits: Floats, groups: Integers) -> dict[str, Estimate]:
    """All scores of one model; logits are `(n, k)`."""
    scores = score_predictions(truth, logits.argmax(axis=1)[None], groups)
    return scores | score_probabilities(truth, softmax(TEMPERATURE * logits, axis=1)[None], groups)


def compare_models(truth: Integers, predicted: Integers, groups: Integers, random: np.random.Generator) -> Comparison:
    """As `verdicts.compare` of both models, `(2, n)`; faster, as rows of one kind are drawn at once, groups aside."""
    decided_on = score_decided_on(truth, predicted)
    if decided_on == "accuracy":
        # Which label it is no longer matters: 0 is right, 1 is wrong.
        truth, predicted = np.zeros_like(truth), (predicted != truth).astype(np.int64)
    if len(np.unique(groups)) < len(groups):
        both = {"one": predicted[:1], "other": predicted[1:]}
        first, second = verdicts.resample_scores(truth, both, groups, SAMPLES, random).values()
    else:
        k = int(max(truth.max(), predicted.max())) + 1
        kind, rows = np.unique(truth * k * k + predicted[0] * k + predicted[1], return_counts=True)
        drawn = random.multinomial(len(truth), rows / len(truth), size=SAMPLES)
        counts = np.concatenate([rows[:, None], drawn.T], axis=1).astype(np.float64)
        first, second = (verdicts.score_samples(kind // k**2, one[None], counts) for one in (kind // k % k, kind % k))
    macro_f1, accuracy = map(verdicts.paired_difference, first, second)
    return Comparison(macro_f1, accuracy, decided_on)


def true_scores(case: Case, random: np.random.Generator) -> dict[str, float]:
    """The first model's scores on many rows, and its macro-F1 and accuracy less the second's."""
    parts = []
    for _ in range(TRUE_PARTS):
        truth, logits, groups = draw_rows(replace(case, grouped=False), TRUE_ROWS, random)
        parts.append([[one.value for one in score_model(truth, of_model, groups).values()] for of_model in logits])
    first, second = np.mean(parts, axis=0)
    # Of equal models the difference is 0, and not what many rows give.
    differences = (first - second)[:2] * (case.gain > 0)
    names = (*SCORES, *(f"{name}_difference" for name in SCORES[:2]))
    return dict(zip(names, [*first.tolist(), *differences.tolist()], strict=True))


def simulate(case: Case, simulations: int, random: np.random.Generator) -> dict[str, float]:
    """Shares of simulations by what is looked at, such as `macro_f1_covered`; NaN where no interval is printed."""
    true = true_scores(case, random)
    seen: dict[str, list[float]] = defaultdict(list)
    p: dict[str, list[float]] = defaultdict(list)
    for _ in progress(range(simulations), case.name(), total=simulations, unit="test set"):
        truth, logits, groups = draw_rows(case, case.rows, random)
        predicted = logits.argmax(axis=2)
        found = compare_models(truth, predicted, groups, random)
        estimates = score_model(truth, logits[0], groups) | {"accuracy_difference": found.accuracy}
        if found.decided_on == "macro_f1":
            estimates["macro_f1_difference"] = found.macro_f1
        for name, one in estimates.items():
            if one.low is not None and one.high is not None:
                seen[f"{name}_covered"].append(one.low <= true[name] <= one.high)
        seen["macro_f1_printed"].append(estimates["macro_f1"].low is not None)
        p["decided"].append(found.decisive().p)
        p["accuracy"].append(found.accuracy.p)
        one, other = predicted == truth
        discordant = [[0, (one & ~other).sum()], [(other & ~one).sum(), 0]]
        p["mcnemar"].append(mcnemar(discordant, exact=True).pvalue)
        confidence = softmax(TEMPERATURE * logits[0], axis=1).max(axis=1)
        right = (random.random(len(truth)) < confidence).astype(np.float64)
        calibration = calibration_metrics(confidence[None], right[None], 15, 200, random)
        seen["calibration_below_95pct"].append(
            calibration["calibration_error"] <= calibration["calibration_error_if_calibrated_95pct"]
        )
    shares = {name: float(np.mean(values)) for name, values in sorted(seen.items())}
    shares |= {f"{name}_found": float((np.array(values) < LEVEL).mean()) for name, values in p.items()}
    families = np.array(p["mcnemar"])[: simulations // FAMILY * FAMILY].reshape(-1, FAMILY)
    shares["holm_family_found"] = float(np.mean([min(holm(family)) < LEVEL for family in families.tolist()]))
    return shares


def main() -> None:
    """Print the table, and write it where that is wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000, help="test sets of each kind")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS}")
    arguments = parser.parse_args()
    table = {}
    for number, case in enumerate(CASES):
        table[case.name()] = simulate(case, arguments.simulations, np.random.default_rng(number))
        print(
            case.name(), *(f"  {name} {share:.3f}" for name, share in table[case.name()].items()), sep="\n", flush=True
        )
    if arguments.write:
        write_json(RESULTS, {"simulations": arguments.simulations, "cases": table})


if __name__ == "__main__":
    run_stage(main)
