"""Regular expressions that stand in YAML files, beside the modules that use them."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"<<([\w:]+)>>")


def fill_patterns(patterns: Mapping[str, str | list[str]], given: Mapping[str, str]) -> dict[str, str]:
    """Patterns by name, with what each `<<name>>` in them stands for in its place: what is given, or one above it.

    Several lines of a list are one pattern.
    """
    known = dict(given)
    for name, text in patterns.items():
        lines = text if isinstance(text, str) else "".join(text)
        known[name] = _REFERENCE.sub(lambda found: known[found[1]], lines)
    return {name: known[name] for name in patterns}
