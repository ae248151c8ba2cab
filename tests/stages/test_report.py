"""The comparison is what the stages measured, and the page is whole, safe and the same for the same inputs."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.report.plots import Flow
from stages import report
from stages.report import Confusion
from tests.generation_inputs import APPROACHES, MODELS, write_generation_inputs

METHODS = {"majority": "majority", "tfidf": "tfidf", "linear_probe": "linear_probe", "lora": "lora", "full": "full"}
QUALITY = {"majority": 0.33, "tfidf": 0.61, "linear_probe": 0.66, "lora": 0.70, "full": 0.72}
SECONDS = {"majority": 0.004, "tfidf": 0.61, "linear_probe": 21.4, "lora": 210.9, "full": 402.3}
PARAMETERS = {"majority": 3, "tfidf": 30_153, "linear_probe": 1_155, "lora": 669_699, "full": 22_714_371}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def with_ends(name: str, value: float) -> dict[str, float]:
    """A figure and the ends of its interval."""
    return {name: value, f"{name}_ci95_low": value - 0.02, f"{name}_ci95_high": value + 0.02}


def write_inputs(root: Path, labels: list[str], rated: bool = True) -> None:
    """Everything that the stage reads, as the other stages write it."""
    random = np.random.default_rng(3)
    asset = {
        "source": "pypi:vaderSentiment==3.3.2",
        "sha256": "5d7c06e0" * 8,
        "licence": "MIT",
        "cite": "Hutto (2014).",
    }
    params = {
        "seed": 7,
        "approaches": list(METHODS),
        "fetch": {"assets": {"feedback": asset | {"unpack": ["a"]}}},
        "finetune": {name: {"method": method} for name, method in METHODS.items()},
        "report": {"title": "Which way?", "examples_per_rule": 2},
        "generation_models": MODELS,
        "sft_approaches": APPROACHES,
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    write_generation_inputs(root)
    metrics = root / "metrics"
    write(metrics / "fetch/feedback.json", {"files": 9, "unpacked_mib": 7.4, "download_mib": 2.4, "fetch_seconds": 1.0})
    rows: dict[str, dict[str, Any]] = {
        "ingest": {"rows_in": 7908, "rows_out": 7900, "removed": {"column_count": 8}},
        "clean": {
            "rows_in": 7900,
            "rows_out": 7790,
            "removed": {"too_short": 0, "exact_duplicate": 61, "near_duplicate": 49},
            "changed": {"html_to_text": 2, "redact_email": 1, "collapse_white_space": 2},
            "near_duplicate_groups_with_conflicting_labels": 1,
            "boilerplate_lines": 1,
            "planted": {
                "email": {"planted": 200}
                | dict.fromkeys(("recall", "recall_ci95_low", "recall_ci95_high"), 0.9876)
                | dict.fromkeys(("precision", "precision_ci95_low", "precision_ci95_high"), 0.9765)
            },
        },
        "annotation_qa": {"rows_in": 7790, "rows_out": 7790, "removed": {}, "ratings": 0},
        "split": {"rows_in": 7790, "rows_out": 7790, "removed": {"no_label": 0, "rare_label": 0}},
        "semantic_duplicates": {
            "rows_in": 7790,
            "rows_out": 7790,
            "removed": {"semantic_duplicate": 0},
            "groups": 1,
            "rows_in_groups": 2,
        },
        "profile": {
            "rows": 7790,
            "labels": 3,
            "labels_below_minimum": 1,
            "characters": {"q05": 21.0, "q50": 76.0, "q95": 158.0},
            "vocabulary": {"types": 11847, "distinct_1": 0.2071},
            "authenticity": {"real": 7790, "generated": 0, "augmented": 1419},
            "per_source": {"tweets": {"rows": 7790, "centroid_cosine": 0.862}, "empty": {"rows_in": 3, "rows": 0}},
        },
        "embed": {"rows_in": 7790, "rows_out": 7790, "removed": {}, "dimensions": 384, "embed_seconds": 41.0},
        "correct": {"rows_in": 7790, "rows_out": 7790, "removed": {"correction": 0}, "relabelled": 3, "confirmed": 2},
        "label_errors": {
            "rows_in": 5453,
            "rows_out": 4871,
            "removed": {"label_error": 582},
            "relabelled": 0,
            "label_errors": 582,
        },
        "injected_noise": {"rows": 0},
        "label_effect": {
            name: {"macro_f1": value, "macro_f1_ci95_low": value - 0.01, "macro_f1_ci95_high": value + 0.01}
            for name, value in {
                "detector_off": 0.61,
                "detector_on": 0.615,
                "detector_on_minus_detector_off": 0.005,
            }.items()
        },
        "augment": {
            "rows_in": 6331,
            "rows_out": 6290,
            "removed": {"unchanged": 30, "near_held_out": 11},
            "original_rows": 6200,
            "new_rows": 90,
            "per_recipe": {
                "synonym": {"made": 131, "let_in": 90, "unchanged": 30, "near_held_out": 11, "duplicate": 0}
            },
        },
        "augment_quality": {"pairs": 50, "per_recipe": {"synonym": {"pairs": 50, **with_ends("label_kept", 0.96)}}},
    }
    if rated:
        rows["annotation_qa"] |= {"ratings": 158_000, "rows_with_ratings": 7790, "fleiss_kappa": 0.4312}
        rows["label_errors"] |= {"grade": {"noise_rate": 0.161, "precision": 0.47, "recall": 0.31}}
        figures = dict.fromkeys(("average_precision", "auroc", "precision_at_5pct", "recall_at_10pct"), 0.77)
        rows["injected_noise"] = {"rows": 9, "class_dependent": {"5pct": figures}}
    for stage, values in rows.items():
        write(metrics / f"{stage}.json", values)

    test_rows = 1558
    for name, quality in QUALITY.items():
        write(
            metrics / "finetune" / f"{name}.json",
            {
                "rows_train": 6290,
                "train_seconds": SECONDS[name],
                "peak_memory_mib": 812.5,
                "trainable_parameters": PARAMETERS[name],
                "total_parameters": max(PARAMETERS[name], 22_714_371 if name in ("lora", "linear_probe") else 0),
                "artefact_mib": 87.1,
            },
        )
        spread = {"accuracy": 0.021, "macro_f1": 0.024, "expected_calibration_error": 0.01}
        values = {"accuracy": quality + 0.05, "macro_f1": quality, "expected_calibration_error": 0.06}
        write(
            metrics / "evaluate" / f"{name}.json",
            {
                "rows": test_rows,
                "seeds": 1,
                **{
                    key: value
                    for score, middle in values.items()
                    for key, value in (
                        (score, middle),
                        (f"{score}_ci95_low", middle - spread[score]),
                        (f"{score}_ci95_high", middle + spread[score]),
                    )
                },
                "inference_ms_per_row": 2.3,
                "per_class": {
                    label: {"precision": 0.7, "recall": 0.7, "f1": 0.7 - index / 1000, "support": 20}
                    for index, label in enumerate(labels)
                },
            },
        )
        perturbed = {"accuracy_before": quality, "accuracy_after": quality - 0.05}
        attack = {"attacked": 20, "succeeded": 13, **with_ends("success_rate", 0.65)}
        write(
            metrics / "robustness" / f"{name}.json",
            {
                "rows": test_rows,
                "perturbations": {"typos": perturbed | with_ends("accuracy_difference", -0.05)},
                "attacks": {"bugs": attack},
            },
        )
        ended = root / f"data/robustness/{name}/attacks.parquet"
        ended.parent.mkdir(parents=True)
        pl.DataFrame(
            {
                "id": ["t1", "t2"],
                "attack": ["bugs", "bugs"],
                "before": ["fish & chips", "not this one"],
                "after": ["fsh & chips", "not tihs one"],
                "result": ["succeeded", "failed"],
            }
        ).write_parquet(ended)
        actual = random.choice(labels, test_rows)
        predicted = np.where(random.random(test_rows) < quality, actual, random.choice(labels, test_rows))
        path = metrics / "plots/confusion" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"actual": actual, "predicted": predicted}).write_csv(path)

    clean = root / "data/clean"
    clean.mkdir(parents=True)
    changed = [
        ("t1", "html_to_text", "fish &amp; <b>chips</b>", "fish & chips"),
        (
            "t2",
            "html_to_text",
            "write to me at jo@example.org &amp; <i>soon</i>",
            "write to me at jo@example.org & soon",
        ),
        ("t2", "redact_email", "write to me at jo@example.org & soon", "write to me at [email] & soon"),
        ("t3", "collapse_white_space", "so   good\u00a0!", "so good !"),
        ("t4", "collapse_white_space", "x" * 900 + "  y", "x" * 900 + " y"),
    ]
    pl.DataFrame(changed, schema=REMOVED_SCHEMA, orient="row").write_parquet(clean / "changed.parquet")
    removed = [
        ("t5", "min_characters", "<script>alert(1)</script>", None, None),
        ("t6", "near_duplicate", "so very good !", None, "t3"),
        ("t7", "label_allowed", "raw jo@example.org", None, None),
    ]
    schema = pl.Schema([*REMOVED_SCHEMA.items(), ("kept_id", pl.String)])
    pl.DataFrame(removed, schema=schema, orient="row").write_parquet(clean / "removed.parquet")
    texts = {"t1": "fish & chips", "t2": "write to me at [email] & soon", "t3": "so good !"}
    pl.DataFrame(
        {"id": list(texts), "text": list(texts.values()), "reference_label": [labels[1] if rated else None] * 3},
        schema={"id": pl.String, "text": pl.String, "reference_label": pl.String},
    ).write_parquet(clean / "records.parquet")
    pl.DataFrame(
        {
            "near_duplicate_group": ["t3", "t3", "t1", "t1"],
            "id": ["t3", "t6", "t1", "t9"],
            "is_kept": [True, False, True, False],
            "source": ["s"] * 4,
            "label": [labels[0], labels[1], labels[0], labels[0]],
            "text": ["so good !", "so very good !", "fish & chips", "fish & chips!"],
            "labels_differ": [True, True, False, False],
        }
    ).write_parquet(clean / "duplicate_groups.parquet")
    pl.DataFrame({"source": ["s"], "line": ["Unsubscribe <here>"], "documents": [90], "share": [0.45]}).write_parquet(
        clean / "boilerplate.parquet"
    )
    (root / "data/profile").mkdir()
    source = dict.fromkeys(("name", "file", "url", "licence", "retrieved", "authenticity", "sha256"), "a<b>")
    tables: dict[str, list[dict[str, Any]]] = {
        "profile/sources": [source | {"rows_in": 7908, "rows_clean": 7790}],
        "profile/labels": [
            {"source": None, "label": labels[0], "rows": 9, "is_below_minimum": True},
            {"source": "tweets", "label": labels[0], "rows": 9, "is_below_minimum": True},
        ],
        "profile/languages": [{"source": "tweets", "language": "und", "rows": 9, "share": 0.25}],
        "profile/least_alike": [{"id": "t1", "label": labels[0], "neighbour_cosine": 0.2, "text": "odd <one>"}],
        "semantic_duplicates/pairs": [
            {"cosine": 0.97, "text": "so good", "label": labels[0], "other_text": "<i>", "other_label": labels[1]}
        ],
    }
    (root / "data/semantic_duplicates").mkdir()
    (root / "data/annotation_qa").mkdir()
    tables["annotation_qa/disagreement"] = [
        {"id": "t7", "text": "so <b>", "disagreement": 0.9, "ratings_good": 3, "ratings_bad": 2, "ratings_odd": 0}
    ]
    for name, content in tables.items():
        pl.DataFrame(content).write_parquet(root / f"data/{name}.parquet")
    (root / "data/augmented").mkdir()
    pl.DataFrame(
        {
            "recipe": ["synonym"],
            "label": [labels[0]],
            "parent_id": ["t1"],
            "before": ["a <big> roof"],
            "after": ["a <large> roof"],
        }
    ).write_csv(root / "data/augmented/pairs.csv")
    (root / "data/label_errors").mkdir()
    pl.DataFrame(
        {
            "id": ["t1", "t2", "t3"],
            "label": [labels[0]] * 3,
            "suggested_label": [labels[1]] * 3,
            "label_quality": [0.04, 0.01, 0.9],
            "is_label_error": [True, True, False],
        }
    ).write_parquet(root / "data/label_errors/scores.parquet")


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_inputs(tmp_path, ["negative", "neutral", "positive"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Page(HTMLParser):
    """Tags left open, ids, in-page links, and what a browser would load."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.headers_without_scope = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value and tag != "pattern"]
        target = values.get("href") or ""
        if tag == "a":
            self.targets.append(target)
        self.loads += [value or "" for key, value in attrs if key == "src" or (key == "href" and tag != "a")]
        self.headers_without_scope += tag == "th" and "scope" not in values
        assert tag != "script"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def summary_of(**macro_f1: tuple[float, float, float]) -> dict[str, Any]:
    scores = {
        name: {"rows": 100, "macro_f1": value, "macro_f1_ci95_low": low, "macro_f1_ci95_high": high}
        for name, (value, low, high) in macro_f1.items()
    }
    return {
        "approaches": {name: value for name, value in scores.items() if name not in report.BASELINE_METHODS},
        "baselines": {name: value for name, value in scores.items() if name in report.BASELINE_METHODS},
    }


def test_summary_holds_scores_costs_and_rows(inputs: Path) -> None:
    report.main()
    summary = json.loads((inputs / "metrics/summary.json").read_text())
    assert list(summary["approaches"]) == ["linear_probe", "lora", "full"]
    assert list(summary["baselines"]) == ["majority", "tfidf"]
    assert summary["approaches"]["full"] == {
        "rows": 1558,
        "seeds": 1,
        "accuracy": 0.77,
        "accuracy_ci95_low": 0.749,
        "accuracy_ci95_high": 0.791,
        "macro_f1": 0.72,
        "macro_f1_ci95_low": 0.696,
        "macro_f1_ci95_high": 0.744,
        "expected_calibration_error": 0.06,
        "expected_calibration_error_ci95_low": 0.05,
        "expected_calibration_error_ci95_high": 0.07,
        "train_seconds": 402.3,
        "peak_memory_mib": 812.5,
        "trainable_parameters": 22714371,
        "total_parameters": 22714371,
        "artefact_mib": 87.1,
        "inference_ms_per_row": 2.3,
    }
    assert summary["data"]["label_errors"] == {"rows_in": 5453, "rows_out": 4871, "removed": {"label_error": 582}}
    for rows in summary["data"].values():
        assert rows["rows_in"] == rows["rows_out"] + sum(rows["removed"].values())


def test_page_is_whole_and_loads_nothing(inputs: Path) -> None:
    report.main()
    text = (inputs / "report/index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert "url(http" not in text
    assert "@import" not in text
    assert sorted(set(page.ids)) == sorted(page.ids)
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)
    assert page.headers_without_scope == 0
    assert "full has the highest macro-F1, 0.720 [0.696, 0.744] on 1,558 test rows" in text


def test_page_is_the_same_for_the_same_inputs(inputs: Path) -> None:
    report.main()
    first = (inputs / "report/index.html").read_bytes()
    report.main()
    assert (inputs / "report/index.html").read_bytes() == first


def test_text_of_the_data_is_escaped(inputs: Path) -> None:
    report.main()
    text = (inputs / "report/index.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_what_was_redacted_is_not_shown(inputs: Path) -> None:
    report.main()
    text = (inputs / "report/index.html").read_text()
    assert "jo@" not in text
    assert "example.org" not in text
    assert "<del>" + "•" * 12 + "</del>" in text


def test_duplicate_stands_beside_the_row_kept(inputs: Path) -> None:
    report.main()
    text = (inputs / "report/index.html").read_text()
    assert '>so<del>␣very</del> good !</td><td class="text">so good !</td>' in text


def test_names_of_approaches_are_escaped(inputs: Path) -> None:
    params = yaml.safe_load((inputs / "params.yaml").read_text())
    params["approaches"] = ["<b>"]
    params["finetune"]["<b>"] = {"method": "full"}
    (inputs / "params.yaml").write_text(yaml.safe_dump(params))
    for folder in ("finetune", "evaluate", "robustness"):
        (inputs / f"metrics/{folder}/full.json").rename(inputs / f"metrics/{folder}/<b>.json")
    (inputs / "data/robustness/full").rename(inputs / "data/robustness/<b>")
    (inputs / "metrics/plots/confusion/full.csv").rename(inputs / "metrics/plots/confusion/<b>.csv")
    report.main()
    text = (inputs / "report/index.html").read_text()
    assert "&lt;b&gt;" in text
    assert re.search(r"<b>(?!\+|−)", text) is None


def test_many_labels_hide_the_numbers_and_fold_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [f"intent_number_{index:02}" for index in range(77)]
    write_inputs(tmp_path, labels, rated=False)
    monkeypatch.chdir(tmp_path)
    report.main()
    text = (tmp_path / "report/index.html").read_text()
    assert Page(text).open == []
    assert "Every label, lowest F1 first (77)" in text
    assert "<details open>" not in text
    assert 'class="on-dark"' not in text
    assert "The data has no ratings" in text
    assert "There is no reference label" in text


def test_missing_metric_names_the_file(inputs: Path) -> None:
    path = inputs / "metrics/evaluate/lora.json"
    values = json.loads(path.read_text())
    del values["macro_f1_ci95_low"]
    write(path, values)
    with pytest.raises(InputError, match=r"metrics/evaluate/lora\.json: `macro_f1_ci95_low` is missing"):
        report.main()
    assert not (inputs / "metrics/summary.json").exists()


def test_no_approach_is_an_error(inputs: Path) -> None:
    params = yaml.safe_load((inputs / "params.yaml").read_text()) | {"approaches": []}
    (inputs / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match="leaves nothing to compare"):
        report.main()


def test_unknown_param_is_an_error(inputs: Path) -> None:
    params = yaml.safe_load((inputs / "params.yaml").read_text())
    params["report"]["titel"] = "x"
    (inputs / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match=r"`report\.titel` = 'x' is not a known key; did you mean `title`"):
        report.main()


def test_verdict_says_whether_intervals_overlap() -> None:
    close = report.verdict(summary_of(full=(0.72, 0.70, 0.74), lora=(0.71, 0.69, 0.73), tfidf=(0.6, 0.58, 0.62)))
    assert (close.best, close.runner_up, close.intervals_overlap) == ("full", "lora", True)
    assert close.difference == pytest.approx(0.01)
    assert "0.010 above lora, 0.710 [0.690, 0.730]" in close.sentence
    far = report.verdict(summary_of(full=(0.72, 0.70, 0.74), lora=(0.6, 0.58, 0.62)))
    assert not far.intervals_overlap
    assert "do not overlap" in far.sentence


def test_verdict_says_when_a_baseline_wins() -> None:
    won = report.verdict(summary_of(full=(0.5, 0.48, 0.52), tfidf=(0.6, 0.58, 0.62)))
    assert won.best == "tfidf"
    assert won.sentence.startswith("No way of fine-tuning beats the baselines")


def test_verdict_of_one_approach() -> None:
    alone = report.verdict(summary_of(full=(0.5, 0.48, 0.52)))
    assert alone.runner_up is None
    assert "nothing to compare it with" in alone.sentence


def test_equal_scores_are_ranked_by_name() -> None:
    tied = summary_of(lora=(0.5, 0.4, 0.6), full=(0.5, 0.4, 0.6))
    assert [name for name, _ in report.ranked(tied)] == ["full", "lora"]


def test_confusion_counts_rows() -> None:
    rows = pl.DataFrame({"actual": ["b", "a", "a", "a"], "predicted": ["b", "b", "a", "b"]})
    matrix = report.confusion(rows)
    assert matrix == Confusion(["a", "b"], [[1, 2], [0, 1]])
    assert report.confused_pairs(matrix, 5) == [("a", "b", 2, 2 / 3)]


def test_label_that_is_only_predicted_is_in_the_matrix() -> None:
    matrix = report.confusion(pl.DataFrame({"actual": ["a"], "predicted": ["b"]}))
    assert matrix == Confusion(["a", "b"], [[0, 1], [0, 0]])


def test_the_page_shows_how_well_redaction_works_what_repeats_and_what_conflicts(inputs: Path) -> None:
    report.main()
    page = (inputs / "report/index.html").read_text()
    assert "0.988" in page
    assert "Unsubscribe &lt;here&gt;" in page
    assert "45.0%" in page
    conflicting = page.split("Near duplicates with different labels (1 groups)")[1].split("</details>")[0]
    assert "so very good !" in conflicting
    assert "fish" not in conflicting


def test_a_row_removed_before_it_was_clean_is_counted_and_not_shown(inputs: Path) -> None:
    report.main()
    page = (inputs / "report/index.html").read_text()
    assert "<code>label_allowed</code>" in page
    assert "raw jo@" not in page


def test_the_page_shows_what_was_collected(inputs: Path) -> None:
    report.main()
    page = (inputs / "report/index.html").read_text()
    chapter = page.split('<h2 id="collection">')[1].split("</section>")[0]
    for expected in (
        "a&lt;b&gt;",
        "21, 76, 158",
        "11,847",
        "1 of 3 labels",
        "25.0%",
        "odd &lt;one&gt;",
        "&lt;i&gt;",
        "0.862",
    ):
        assert expected in chapter
    assert "<i>" not in chapter


def test_flow_knows_rows_made_and_train_rows(inputs: Path) -> None:
    report.main()
    summary = json.loads((inputs / "metrics/summary.json").read_text())
    assert report.flows(summary) == [
        Flow("raw", 7908, 0, 0),
        Flow("ingest", 7900, 0, 8),
        Flow("clean", 7790, 0, 110),
        Flow("correct", 7790, 0, 0),
        Flow("semantic_duplicates", 7790, 0, 0),
        Flow("split", 7790, 0, 0),
        Flow("label_errors (train)", 4871, 0, 582),
        Flow("augment (train)", 4871, 1419, 41),
    ]


def test_an_approach_that_was_left_out_is_named_with_the_reason(inputs: Path) -> None:
    reason = "bitsandbytes cannot compute in 4 bits on this cpu: no kernel"
    for stage in ("finetune", "evaluate", "robustness"):
        write(inputs / f"metrics/{stage}/lora.json", {"left_out": reason})
    report.main()
    summary = json.loads((inputs / "metrics/summary.json").read_text())
    assert list(summary["approaches"]) == ["linear_probe", "full"]
    assert summary["left_out"] == {"lora": reason}
    assert f"<strong>lora</strong> is not in the comparison: {reason}" in (inputs / "report/index.html").read_text()


def test_copies_stand_beside_their_parents(inputs: Path) -> None:
    report.main()
    page = (inputs / "report/index.html").read_text()
    assert "90 copies were let in beside 6,200 train rows" in page
    assert "0.960" in page
    assert "&lt;<ins>lar</ins>" in page
    assert "<code>unchanged</code> 30, <code>near_held_out</code> 11</td>" in page


def test_without_recipes_the_page_says_so(inputs: Path) -> None:
    augment = json.loads((inputs / "metrics/augment.json").read_text()) | {"per_recipe": {}, "new_rows": 0}
    write(inputs / "metrics/augment.json", augment)
    write(inputs / "metrics/optional/augment_quality.json", {"pairs": 0, "per_recipe": {}})
    (inputs / "data/augmented/pairs.csv").write_text("recipe,label,parent_id,before,after,cosine\n")
    report.main()
    assert "No recipe is on, so no copies were made." in (inputs / "report/index.html").read_text()


def test_what_a_model_bears_is_drawn_and_counted(inputs: Path) -> None:
    report.main()
    page = (inputs / "report/index.html").read_text()
    assert "altered by <code>typos</code>" in page
    assert "−0.050 [−0.070, −0.030]" in page
    assert "13 of 20" in page
    assert "f<del>i</del>sh &amp; chips" in page
    assert "not tihs one" not in page


def test_answers_to_the_same_questions_stand_side_by_side(inputs: Path) -> None:
    report.main()
    text = (inputs / "report/index.html").read_text()
    assert "3 test questions with the answer of every model" in text
    assert "sft-lora says &lt;so&gt;" in text
    assert "(nothing)" in text
    assert "sft-qlora</strong> is not in the comparison: no 4-bit arithmetic here" in text
    assert "right on 83.0% [78.0, 88.0] of 201 held-out pairs" in text
