"""The names of the metrics that the report explains, and what each says: `wording.yaml`."""

from pathlib import Path
from typing import Any

import yaml

_WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
PROFILED: dict[str, str] = _WORDS["profiled"]
RATERS: dict[str, str] = _WORDS["raters"]
MODES: dict[str, str] = _WORDS["modes"]
QUESTIONS_SHOWN: dict[str, int] = _WORDS["questions_shown"]
AGREEMENT, GRADES = (
    {key: (name, about) for key, (name, about) in _WORDS[kind].items()} for kind in ("agreement", "grades")
)
SCORES: list[tuple[str, str, str, str]] = _WORDS["scores"]
DIFFERENCES: list[tuple[str, str, str]] = _WORDS["differences"]
SHOWN_REMOVALS: list[str] = _WORDS["shown_removals"]
