"""Figures over items with a 95% percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

What is resampled: the items, with replacement, each with all that was said of it. So an interval says how far a figure
would move if other items of the same kind had been rated. It says nothing of other annotators: they stay.

Legend: `n` items, `b` bootstrap samples. A measure takes how often each item counts, shape `(n, b)`, and gives figures
by name, shape `(b,)` each, NaN where one is undefined. It works from sums over items, so that a sample costs no more
than one multiplication by its counts.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from assay.statistics.metrics_dict import Estimate

Floats = NDArray[np.float64]
Measure = Callable[[Floats], dict[str, Floats]]

CHUNK_CELLS = 16_000_000
"""Counts held at a time: items times bootstrap samples, 128 MB."""
CHUNK_SAMPLES = 128
"""Bootstrap samples at a time: more fall out of the processor's cache, and cost more each."""


def item_counts(items: int, samples: int, random: np.random.Generator) -> Iterator[Floats]:
    """How often each item is drawn in each bootstrap sample: multinomial counts, in parts of shape `(n, ≤ b)`."""
    chunk = max(1, min(CHUNK_SAMPLES, CHUNK_CELLS // items))
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        drawn = random.integers(0, items, size=(size, items))
        flat = (drawn + items * np.arange(size)[:, None]).ravel()
        counts = np.bincount(flat, minlength=size * items).reshape(size, items)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def bootstrap_figures(measure: Measure, items: int, samples: int, random: np.random.Generator) -> dict[str, Estimate]:
    """The figures of a measure with their intervals; one that is undefined on the items themselves is left out.

    Samples in which a figure is undefined do not count towards its interval. Of fewer than two items every sample is
    the same, and there is no interval.

    Args:
        measure: the figures under given counts of the items.
        items: number of items, `n`.
        samples: bootstrap samples, `b`.
        random: source of the resampling.
    """
    if items == 0:
        return {}
    point = {name: float(values[0]) for name, values in measure(np.ones((items, 1))).items()}
    parts = [measure(counts) for counts in item_counts(items, samples, random)] if items > 1 else []
    estimates = {}
    for name, value in point.items():
        if np.isnan(value):
            continue
        drawn = np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            low, high = np.quantile(drawn, [0.025, 0.975])
            estimates[name] = Estimate(value, float(low), float(high))
        else:
            estimates[name] = Estimate(value, None, None)
    return estimates
