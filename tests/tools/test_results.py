"""The results are those of the summary, wherever they are shown."""

from pathlib import Path
from typing import Any

import pytest

from stages.lib.errors import InputError
from tools import results


def scores(macro_f1: float, parameters: int) -> dict[str, Any]:
    return {
        "rows": 1500,
        **{
            name + end: macro_f1 + step
            for name in ("macro_f1", "accuracy")
            for end, step in (("", 0.0), ("_ci95_low", -0.02), ("_ci95_high", 0.02))
        },
        "train_seconds": 41.037,
        "peak_memory_mib": 812.2,
        "trainable_parameters": parameters,
    }


SUMMARY = {"approaches": {"lora": scores(0.7, 669_699)}, "baselines": {"tfidf": scores(0.6, 30_153)}, "left_out": {}}


def test_terminal_table_is_aligned_and_ranked() -> None:
    header, rule, first, second = results.terminal_table(SUMMARY).splitlines()
    assert len(header) == len(rule) == len(first) == len(second)
    assert first.split() == [
        "lora",
        "0.700",
        "[0.680,",
        "0.720]",
        "0.700",
        "[0.680,",
        "0.720]",
        "41.0",
        "812",
        "669,699",
    ]
    assert second.startswith("tfidf (baseline)")


def test_markdown_goes_between_the_markers_and_nowhere_else() -> None:
    text = f"# A\n{results.BEGIN}\nold\n{results.END}\nB\n"
    once = results.between_markers(text, results.markdown_table(SUMMARY), Path("README.md"))
    assert once.startswith(f"# A\n{results.BEGIN}\n| approach |")
    assert once.endswith(f"\n{results.END}\nB\n")
    assert "old" not in once
    assert results.between_markers(once, results.markdown_table(SUMMARY), Path("README.md")) == once


def test_missing_marker_is_an_error() -> None:
    with pytest.raises(InputError, match=r"README\.md: needs one line"):
        results.between_markers("# A\n", "x", Path("README.md"))


def test_what_was_left_out_is_said() -> None:
    reason = "bitsandbytes cannot compute in 4 bits on this cpu: no kernel"
    text = results.markdown_table(SUMMARY | {"left_out": {"qlora": reason}})
    assert text.endswith(f"\n\nqlora is not in the comparison: {reason}")
