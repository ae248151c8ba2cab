"""The results are those of the summary, wherever they are shown."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import write_json
from assay.statistics.metrics_dict import Estimate, metrics_of
from tests.own_cases import read_cases
from tests.own_process import run_main
from tests.own_results import stamp_run_ids
from tools.changes import readme_results

CASES = read_cases(__file__)


def scores(macro_f1: float) -> dict[str, Any]:
    estimate = Estimate(macro_f1, macro_f1 - 0.02, macro_f1 + 0.02)
    return {"rows": 1500, "seeds": 1, "last_epoch_gain": 0.0} | metrics_of({"macro_f1": estimate, "accuracy": estimate})


SUMMARY: dict[str, Any] = {"approaches": {"lora": scores(0.7)}, "baselines": {"tfidf": scores(0.6)}, "left_out": {}}
TO_BEST = {"difference": -0.1, "difference_ci95_low": -0.13, "difference_ci95_high": -0.07, "p_holm": 0.0002}
SUMMARY["verdicts"] = {"decided_on": "macro_f1", "pairs": 1, "best": "lora", "best_group": ["lora"]}
SUMMARY["verdicts"] |= {"minimum_detectable_difference": 0.04, "to_best": {"tfidf": TO_BEST | {"verdict": "worse"}}}
SUMMARY |= {"raters": {"one_rater": scores(0.8)}, "few_test_rows": {}}
SUMMARY |= {"labels": 3, "ratings": 0, "data": {"ingest": {"rows_in": 1800}}}
PARAMS = CASES["params"]
PERPLEXITY = {"perplexity": 2.61, "perplexity_ci95_low": 2.4, "perplexity_ci95_high": 2.8}
REFUSED = {"refused": 0.0, "refused_count": 0, "refused_rows": 98}
COPIED = {"open": {"rows": 98, "chrf": 0.544}, "retrieved": {"rows": 98, "chrf": 0.2, "held": 3}}
WORSE = {"chrf_difference": -0.1, "chrf_difference_ci95_low": -0.15, "chrf_difference_ci95_high": -0.05}
GENERATION: dict[str, Any] = CASES["generation"]
MARKED = "# A\n<!-- generation: `make readme` writes them from metrics/ -->\nold\n<!-- /generation -->\nB\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    results = "# A\n<!-- results: `make readme` writes them from metrics/ -->\nold\n<!-- /results -->\n"
    (tmp_path / "README.md").write_text(results + MARKED)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_json("metrics/summary.json", SUMMARY)
    write_json("metrics/optional/generation_summary.json", GENERATION)
    return tmp_path


@pytest.mark.usefixtures("project")
def test_terminal_table_is_aligned_and_ranked_with_costs_of_the_approaches_that_ran_here() -> None:
    write_json("metrics/cost/finetune/lora.json", {"train_seconds": 41.037, "peak_memory_mib": 812.2})
    shown = readme_results.align_tables(readme_results.track_texts(SUMMARY, {})["results"])
    header, rule, first, second, rater = shown.split("\n\n")[1].splitlines()
    assert len({len(line) for line in (header, rule, first, second, rater)}) == 1
    interval = ["0.700", "[0.680,", "0.720]"]
    assert first.split() == ["lora", *interval, *interval, "–", "–", "best", "41.0", "812"]
    assert second.startswith("tfidf (baseline)")
    assert second.split()[-8:] == ["-0.100", "[-0.130,", "-0.070]", "<", "0.001", "worse", "–", "–"]
    assert rater.startswith("one rater, against the label")


def model_rows(generation: dict[str, Any]) -> list[list[str]]:
    text = readme_results.track_texts(SUMMARY, generation)["generation"]
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.usefixtures("project")
def test_language_models_stand_beside_baselines() -> None:
    _, model, copied = model_rows(GENERATION)
    worse = "-0.100 [-0.150, -0.050], worse"
    assert model == ["base", "2.61 [2.40, 2.80]", "–", "–", "–", worse, worse, "0 of 98", "–", "2 of 6"]
    assert copied == ["copy nearest (baseline)", "–", "–", "0.544", "0.200", *["–"] * 5]
    # What people judged gets a column once there is something.
    judged = GENERATION | {"pairs": {"base_against_base": {"people_win_rate": 0.5}}}
    assert [row[-1] for row in model_rows(judged)] == ["preferred to base by people", "0.500", "–"]


@pytest.mark.usefixtures("project")
def test_markdown_goes_between_the_markers_and_nowhere_else() -> None:
    reason = "bitsandbytes cannot compute in 4 bits on this cpu: no kernel"
    texts = readme_results.track_texts(SUMMARY | {"left_out": {"qlora": reason}}, GENERATION)
    assert texts["results"].endswith(f"\n\nqlora is not in the comparison: {reason}")
    once = readme_results.between_markers(MARKED, "generation", texts["generation"], Path("README.md"))
    assert once.startswith("# A\n<!-- generation")
    assert "\n\n| language model |" in once
    assert (
        "No model is shown to answer better than copying the passage nearest to the question. With the true passage "
        "among those shown, beside copying the nearest passage (chrF 0.544): worse: base. Asked as `make ask` asks, "
        "where the search finds the true answer to 3 of 98 questions, beside copying"
    ) in once
    assert once.endswith("no 4-bit arithmetic\n<!-- /generation -->\nB\n")
    assert "old" not in once
    assert readme_results.between_markers(once, "generation", texts["generation"], Path("README.md")) == once
    with pytest.raises(InputError, match=r"README\.md: needs one line `<!-- results"):
        readme_results.between_markers(MARKED, "results", "x", Path("README.md"))


def test_the_readme_speaks_of_the_sources_in_params(project: Path) -> None:
    stamp_run_ids(project)
    run_main(readme_results, "--write", "README.md")
    text = (project / "README.md").read_text()
    assert "1,800 rows of mails, 3 labels. Scored on 1,500 test rows by the given label." in text
    assert "from `models/base/tiny` (Tiny (2026).), on [answers](https://example.org) and more." in text
    assert "old" not in text


def test_results_of_somebody_elses_data_are_refused(project: Path) -> None:
    before = (project / "README.md").read_text()
    for arguments in ([], ["--write", "README.md"]):
        with pytest.raises(InputError, match="`report` did not run on these data and params"):
            run_main(readme_results, *arguments)
    assert (project / "README.md").read_text() == before


def test_what_did_not_run_is_named_and_the_next_steps_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stamp_run_ids(project)
    write_json("metrics/optional/generation_summary.json", GENERATION)
    run_main(readme_results)
    said = capsys.readouterr().out
    assert "left out: compare_generation: not run on these data and params; `make repro`" in said
    assert "language model" not in said
    assert all(f"`make {target}`" in said for target in ("diff BASE=main", "readme"))
    assert "make review" not in said  # `review_queue` is off


def test_a_track_that_is_off_leaves_no_block(project: Path) -> None:
    off = PARAMS | {"optional": {"compare_generation": []}, "generation_models": {}}
    (project / "params.yaml").write_text(yaml.safe_dump(off))
    stamp_run_ids(project)
    run_main(readme_results, "--write", "README.md")
    assert "from metrics/ -->\n\n<!-- /generation -->" in (project / "README.md").read_text()
