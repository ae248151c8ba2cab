"""Which labels more rows would help most, by the learning curve of each.

Legend: `n` scored rows, `g` groups of them, `k` labels, `d` draws, `s` sizes.
"""

from collections.abc import Sequence

import numpy as np

from assay.statistics.intervals import Floats, Integers

MORE_ROWS = 100
Z90 = 1.6448536269514722
"""Quantile 0.95 of the normal distribution, for bands of 90%."""


def score_labels(truth: Integers, predicted: Integers, groups: Integers) -> tuple[Floats, Floats]:
    """1 - F1 of each label that has rows, `(k,)`, and how far each group of rows moves it, `(g, k)`; all others `(n,)`.

    The squares of the latter, summed, are its variance by the delta method, as in `f1_influence`.
    """
    labels = np.unique(truth)
    true, said = (one[:, None] == labels for one in (truth, predicted))
    occurrences = (true.sum(axis=0) + said.sum(axis=0)).astype(np.float64)
    f1 = 2 * (true & said).sum(axis=0) / occurrences
    moved = np.zeros((int(groups.max()) + 1, len(labels)))
    np.add.at(moved, groups, (f1 * (true.astype(int) + said) - 2 * (true & said)) / occurrences)
    return 1 - f1, moved


def measure_labels(
    names: Sequence[str], rows: Integers, sizes: Floats, scored: Sequence[tuple[Floats, Floats]], exponent: float
) -> dict[str, dict[str, float]]:
    """What `MORE_ROWS` more train rows of a label are expected to bring, in points of macro-F1, the most first.

    By label error = c + a·n^(-b), with b of the whole curve, gives what its own F1 gains, a kth of which is macro-F1's.
    In the curve, rows of all labels grow together: what those of others do is in there too. As single labels are
    noisy, each a is shrunk to their mean by empirical Bayes (Efron & Morris 1975). The band is 90%, by draws and
    scored rows; b is taken as known.

    Args:
        names: of the labels that have scored rows; `rows` are all train rows of each, shape `(k,)`.
        sizes: of the subsets, as shares of all rows, shape `(s,)`.
        scored: what `score_labels` gives, by draw and size.
    """
    weights = np.linalg.pinv(np.stack([np.ones_like(sizes), sizes**-exponent], axis=1))[1]
    errors = np.array([one for one, _ in scored]).reshape(-1, len(sizes), len(rows))
    moved = np.array([one for _, one in scored]).reshape(len(errors), len(sizes), -1, len(rows)).mean(axis=0)
    of_draw = np.einsum("s,dsk->dk", weights, errors)
    found = of_draw.mean(axis=0)
    variance = of_draw.var(axis=0, ddof=1) / len(errors) + (np.einsum("s,sgk->gk", weights, moved) ** 2).sum(axis=0)
    between = max(0.0, found.var(ddof=1) - variance.mean())
    kept = between / (between + variance)
    shrunk = found.mean() + kept * (found - found.mean())
    margin = Z90 * np.sqrt(kept * variance + (1 - kept) ** 2 * variance.mean() / len(rows))
    factor = 100 / len(rows) * (1 - (1 + MORE_ROWS / rows) ** -exponent)
    gains = np.stack([shrunk, shrunk - margin, shrunk + margin]) * factor
    keys = ("f1", "gain_points", "gain_points_band90_low", "gain_points_band90_high")
    ordered = np.argsort(-gains[0], kind="stable")
    values = np.vstack([1 - errors[:, -1].mean(axis=0), gains]).tolist()
    return {
        names[i]: {"rows": int(rows[i])} | {key: of[i] for key, of in zip(keys, values, strict=True)} for i in ordered
    }
