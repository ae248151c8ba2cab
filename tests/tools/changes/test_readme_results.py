"""The results are those of the summary, wherever they are shown."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import InputError
from tools.changes import readme_results


def scores(macro_f1: float, parameters: int) -> dict[str, Any]:
    return {
        "rows": 1500,
        **{
            name + end: macro_f1 + step
            for name in ("macro_f1", "accuracy")
            for end, step in (("", 0.0), ("_ci95_low", -0.02), ("_ci95_high", 0.02))
        },
        "trainable_parameters": parameters,
    }


SUMMARY = {"approaches": {"lora": scores(0.7, 669_699)}, "baselines": {"tfidf": scores(0.6, 30_153)}, "left_out": {}}


COSTS: dict[str, dict[str, Any]] = {"lora": {"train_seconds": 41.037, "peak_memory_mib": 812.2}, "tfidf": {}}
ROWS = readme_results.result_rows(SUMMARY, COSTS)
PERPLEXITY = {"perplexity": 2.61, "perplexity_ci95_low": 2.4, "perplexity_ci95_high": 2.8}
GENERATION = {"models": {"base": {"answer": PERPLEXITY}}, "left_out": {"sft-qlora": "no 4-bit arithmetic"}}
MARKED = "# A\n<!-- generation: `make readme` writes them from metrics/ -->\nold\n<!-- /generation -->\nB\n"


def test_terminal_table_is_aligned_and_ranked() -> None:
    header, rule, first, second = readme_results.terminal_table(readme_results.HEADER, ROWS).splitlines()
    assert len(header) == len(rule) == len(first) == len(second)
    interval = ["0.700", "[0.680,", "0.720]"]
    assert first.split() == ["lora", *interval, *interval, "41.0", "812", "669,699"]
    assert second.startswith("tfidf (baseline)")
    assert second.split()[-3:] == ["–", "–", "30,153"]


def test_costs_are_those_of_the_approaches_that_ran_here(tmp_path: Path) -> None:
    (tmp_path / "lora.json").write_text('{"train_seconds": 41.037, "peak_memory_mib": 812.2}')
    assert readme_results.read_costs(SUMMARY, tmp_path) == COSTS


def test_what_a_language_model_was_not_asked_is_a_dash() -> None:
    assert readme_results.model_rows(GENERATION) == [["base", "2.610 [2.400, 2.800]", "–", "–", "–"]]


def test_markdown_goes_between_the_markers_and_nowhere_else() -> None:
    content = readme_results.markdown_parts(SUMMARY, COSTS, GENERATION)["generation"]
    once = readme_results.between_markers(MARKED, "generation", content, Path("README.md"))
    assert once.startswith("# A\n<!-- generation")
    assert "\n| language model |" in once
    assert once.endswith("no 4-bit arithmetic\n<!-- /generation -->\nB\n")
    assert "old" not in once
    assert readme_results.between_markers(once, "generation", content, Path("README.md")) == once


def test_missing_marker_is_an_error() -> None:
    with pytest.raises(InputError, match=r"README\.md: needs one line `<!-- results"):
        readme_results.between_markers(MARKED, "results", "x", Path("README.md"))


def test_what_was_skipped_is_named() -> None:
    reason = "bitsandbytes cannot compute in 4 bits on this cpu: no kernel"
    text = readme_results.markdown_parts(SUMMARY | {"left_out": {"qlora": reason}}, COSTS, GENERATION)["results"]
    assert text.endswith(f"\n\nqlora is not in the comparison: {reason}")
