"""Scores with their 95% intervals as metrics files have them: `accuracy`, `accuracy_ci95_low`, `accuracy_ci95_high`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LOW, HIGH = "_ci95_low", "_ci95_high"


@dataclass(frozen=True)
class Estimate:
    """A score and its 95% interval; without one (`None`) where there are too few items or no sample defines it."""

    value: float
    low: float | None
    high: float | None


def interval_metrics(name: str, estimate: Estimate) -> dict[str, float]:
    """One score as metrics; an estimate without an interval gives its value alone."""
    if estimate.low is None or estimate.high is None:
        return {name: float(estimate.value)}
    return {name: float(estimate.value), f"{name}{LOW}": float(estimate.low), f"{name}{HIGH}": float(estimate.high)}


def metrics_of(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Several scores as metrics, in their order."""
    return {key: value for name, one in estimates.items() for key, value in interval_metrics(name, one).items()}


def estimate_of(metrics: Mapping[str, Any], name: str) -> Estimate | None:
    """A score of a metrics file with its interval, as far as it has one; None where there is no such score."""
    value = metrics.get(name)
    return None if value is None else Estimate(value, metrics.get(f"{name}{LOW}"), metrics.get(f"{name}{HIGH}"))


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested metrics or params with its dotted path; an empty mapping is a leaf."""
    if not isinstance(tree, Mapping) or not tree:
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
