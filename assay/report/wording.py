"""The names of the metrics that the report explains, and what each says: `wording.yaml`."""

from pathlib import Path
from typing import Any

import yaml

_WORDS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
PROFILED: dict[str, str] = _WORDS["profiled"]
AGREEMENT: dict[str, tuple[str, str]] = {key: (name, about) for key, (name, about) in _WORDS["agreement"].items()}
RATERS: dict[str, str] = _WORDS["raters"]
GRADES: dict[str, tuple[str, str]] = {key: (name, about) for key, (name, about) in _WORDS["grades"].items()}
EFFECTS: dict[str, tuple[str, str]] = {key: (name, about) for key, (name, about) in _WORDS["effects"].items()}
SHOWN_REMOVALS = (
    *("min_characters", "max_characters", "max_tokens", "language"),
    *("conflicting_label", "exact_duplicate", "near_duplicate"),
)
"""Rules that remove rows once they are clean; what others removed may hold personal data, and is only counted."""
