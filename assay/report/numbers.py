"""Numbers as the report, README.md and pull-request comments show them."""

import math


def number(value: float | None, digits: int = 3) -> str:
    """A number to be read: thousands separated, at least `digits` significant digits, whole numbers in full; or `–`."""
    if value is None:
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{decimals}f}"


def score(value: float) -> str:
    """A score between 0 and 1."""
    return f"{value:.3f}"
