"""Figures over items with a 95% percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

What is resampled: the items, with replacement, each with all its ratings or predictions. So an interval says how far a
figure would move with other items of the same kind. It says nothing of other annotators: they stay.

Legend: `n` items, `b` bootstrap samples. A measure takes how often each item counts, shape `(n, b)`, and gives figures
by name, shape `(b,)` each, NaN where one is undefined. It works from sums over items, so that a sample costs no more
than one multiplication by its counts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from assay.statistics.intervals import Floats, percentile_estimate
from assay.statistics.metrics_dict import Estimate

Measure = Callable[[Floats], dict[str, Floats]]

CHUNK_CELLS = 16_000_000
"""Counts held at a time: items times bootstrap samples, 128 MB."""
CHUNK_SAMPLES = 128
"""Bootstrap samples at a time: more fall out of the CPU's cache, and cost more each."""


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
    """The metrics of a measure with their intervals; one that is undefined on the items themselves is skipped.

    Samples in which a figure is undefined do not count towards its interval. Of fewer than two items every sample is
    the same, and there is no interval.
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
        estimates[name] = percentile_estimate(value, drawn[~np.isnan(drawn)])
    return estimates


def cluster_means(
    values: Mapping[str, Floats], clusters: Sequence[str], samples: int, random: np.random.Generator
) -> dict[str, Estimate]:
    """Means over items, shape `(n,)` each, with intervals over their clusters: items of one are not independent."""
    names, of_item = np.unique(np.array(clusters), return_inverse=True)
    sums = np.stack([np.bincount(of_item, weights=one) for one in values.values()])
    sizes = np.bincount(of_item).astype(np.float64)

    def means(counts: Floats) -> dict[str, Floats]:
        return dict(zip(values, sums @ counts / (sizes @ counts), strict=True))

    return bootstrap_figures(means, len(names), samples, random)
