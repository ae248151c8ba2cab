"""From which probability on a label is sure enough for a wanted precision, chosen on validation rows.

Selection with guaranteed risk (Geifman & El-Yaniv 2017, algorithm 1): a binary search for the lowest threshold at which
a lower bound of the precision of the validation rows above it (Clopper & Pearson 1934) reaches the wanted one; each of
the thresholds tried has its share of `ERROR_PROBABILITY`.

Deviations: the search is among `SHARES` shares of the rows, not among all thresholds, so that fewer tests share the
error probability; and rows of equal probability are above a threshold together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.special import betaincinv

from assay.core.params import Params
from assay.statistics.intervals import wilson_estimate
from assay.statistics.metrics_dict import Estimate

ERROR_PROBABILITY = 0.05
SHARES = 31
TESTS = SHARES.bit_length()


class InferenceParams(Params):
    """The `inference` section of `params.yaml`, which no stage reads."""

    wanted_precision: float = Field(gt=0, lt=1)


@dataclass(frozen=True)
class Threshold:
    """From which probability on a label is sure.

    Attributes:
        wanted_precision: of the labels that are sure.
        probability: None where no threshold reaches the wanted precision, and nothing is sure.
        precision: of the validation rows above it, with its 95% interval; of all, where there is no threshold.
        coverage: the share of the validation rows that are above it.
    """

    wanted_precision: float
    probability: float | None
    precision: Estimate
    coverage: float

    def __str__(self) -> str:
        found, wanted = self.precision, f"{self.wanted_precision:.0%}"
        seen = f"{found.value:.1%} right (95% interval {found.low:.1%} to {found.high:.1%})"
        if self.probability is None:
            return f"no threshold reaches a precision of {wanted}, so no label is sure; of all validation rows {seen}"
        sure = f"sure from probability {self.probability:.3f} for a precision of {wanted}"
        return f"{sure}; of the {self.coverage:.1%} of validation rows above it {seen}"


def choose_threshold(probabilities: Sequence[float], is_right: Sequence[bool], wanted_precision: float) -> Threshold:
    """The threshold for a wanted precision, from validation rows: probability and correctness, `(n,)` each, n > 0."""
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    sorted_down = np.asarray(probabilities, dtype=np.float64)[order]
    right = np.asarray(is_right)[order].cumsum()
    rows, reached, low, high = len(order), 0, 0, SHARES + 1
    while high - low > 1:
        share = (low + high) // 2
        above = int((sorted_down >= sorted_down[-(-share * rows // SHARES) - 1]).sum())
        correct = int(right[above - 1])
        if correct and betaincinv(correct, above - correct + 1, ERROR_PROBABILITY / TESTS) >= wanted_precision:
            reached, low = above, share
        else:
            high = share
    probability = float(sorted_down[reached - 1]) if reached else None
    counted = reached or rows
    return Threshold(wanted_precision, probability, wilson_estimate(int(right[counted - 1]), counted), reached / rows)
