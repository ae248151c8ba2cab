"""Models trained on variants of the same rows, side by side: their scores, and what each is worth, as metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from assay.core.params import Params
from assay.statistics.bootstrap import Floats
from assay.statistics.metrics_dict import Estimate, interval_metrics
from assay.statistics.verdicts import Integers, paired_difference, resample_scores, score_decided_on

SCORES = ("macro_f1", "accuracy")


class LabelEffectParams(Params):
    """The `label_effect` section of `params.yaml`: of the probe, a logistic regression, and the intervals."""

    C: float = Field(gt=0)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def score_variants(
    truth: Integers,
    predicted: Mapping[str, Integers],
    pairs: Sequence[tuple[str, str]],
    groups: Integers,
    samples: int,
    random: np.random.Generator,
) -> dict[str, dict[str, float]]:
    """Macro-F1 and accuracy of each variant, and of each pair `<one>_minus_<other>`, with 95% bootstrap intervals.

    Rows of one group are drawn together, and differences are paired. The intervals are over the scored rows; the rows
    trained on stay. Macro-F1 has none where a label has too few rows (see `score_decided_on`), and nothing has one of
    width 0. Truth, groups and the predicted classes of each variant are of shape `(n,)`.
    """
    drawn = resample_scores(truth, {name: one[None] for name, one in predicted.items()}, groups, samples, random)
    with_interval = {"accuracy", score_decided_on(truth)}

    def summarise(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, of_one, of_other in zip(SCORES, one, other, strict=True):
            difference = paired_difference(of_one, of_other)
            ends = (difference.low, difference.high) if name in with_interval else (None, None)
            found |= interval_metrics(name, Estimate(difference.value, *ends))
        return found

    nothing = (np.zeros(1 + samples), np.zeros(1 + samples))
    scores = {name: summarise(one, nothing) for name, one in drawn.items()}
    return scores | {f"{one}_minus_{other}": summarise(drawn[one], drawn[other]) for one, other in pairs}
