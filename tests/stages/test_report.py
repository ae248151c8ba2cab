"""The comparison is what the stages measured, and the page is whole, safe and the same for the same inputs."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.statistics.predictions import format_predictions, predictions_file
from stages import report
from tests.generation_inputs import APPROACHES, MODELS, write_generation_inputs
from tests.own_params import change
from tests.own_results import stamp_run_ids

METHODS = {"majority": "majority", "tfidf": "tfidf", "linear_probe": "linear_probe", "lora": "lora", "full": "full"}
METRICS = Path(__file__).with_name("report_metrics.yaml")
ASSETS = {"feedback": "data/raw/feedback", "minilm": "models/base/minilm", "smollm2": "models/base/smollm2"}
QUALITY = {"majority": 0.33, "tfidf": 0.61, "linear_probe": 0.66, "lora": 0.70, "full": 0.72}
SECONDS = {"majority": 0.004, "tfidf": 0.61, "linear_probe": 21.4, "lora": 210.9, "full": 402.3}
CALIBRATION = {"calibration_error": 0.06, "calibration_error_if_calibrated": 0.02}
CALIBRATION |= {"calibration_error_if_calibrated_95pct": 0.05}
TRACK = ("reward", "dpo", "rloo", "ppo", "compare_generation")
PARAMETERS = {"majority": 3, "tfidf": 30_153, "linear_probe": 1_155, "lora": 669_699, "full": 22_714_371}


def table(columns: str, *rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=columns.split(), orient="row")


def with_ends(name: str, value: float) -> dict[str, float]:
    """A figure and the ends of its interval."""
    return {name: value, f"{name}_ci95_low": value - 0.02, f"{name}_ci95_high": value + 0.02}


def write_inputs(root: Path, labels: list[str], rated: bool = True) -> None:
    """Everything that the stage reads, as the other stages write it."""
    random = np.random.default_rng(3)
    asset = {"source": "pypi:vaderSentiment==3.3.2", "sha256": "5d7c06e0" * 8, "licence": "MIT"}
    asset |= {"cite": "Hutto (2014)."}
    params = {
        "seed": 7,
        "approaches": list(METHODS),
        "fetch": {"assets": {name: asset | {"unpack": ["a"], "path": path} for name, path in ASSETS.items()}},
        "finetune": {name: {"method": method, "model": "models/base/minilm"} for name, method in METHODS.items()},
        "report": {"title": "Which way?", "examples_per_rule": 2},
        "optional": {name: ["default"] for name in TRACK} | {"robustness": list(METHODS)},
        "generation_models": MODELS,
        "sft_approaches": APPROACHES,
        "ingest": {"path": "data/raw/feedback", "sources": [{"name": "tweets"}]},
        "instruct_data": {"path": "data/raw/faq", "sources": [{"name": "faq"}], "label_task": None},
        "embed": {"model": "models/base/minilm"},
        "augment": {"wordnet": "data/raw/wordnet"},
        "language_model": "models/base/smollm2",
        "profile": {"min_language_probability": 0.5},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    write_generation_inputs(root)
    metrics = root / "metrics"
    for name in ASSETS:
        write_json(metrics / f"fetch/{name}.json", {"files": 9, "unpacked_mib": 7.4, "download_mib": 2.4})
    rows: dict[str, dict[str, Any]] = yaml.safe_load(METRICS.read_text(encoding="utf-8"))
    if rated:
        rows["annotation_qa"] |= {"ratings": 158_000, "rows_with_ratings": 7790, "fleiss_kappa": 0.4312}
        slot = {"ratings": 3685, "share": 0.97, "rest_median": 0.577}
        rows["annotation_qa"]["like_the_others"] = {"reviews": {"20": slot}}
        rows["label_errors"] |= {"grade": {"noise_rate": 0.161, "precision": 0.47, "recall": 0.31}}
    for stage, values in rows.items():
        write_json(metrics / f"{stage}.json", values)

    test_rows = 1558
    target, luck = random.integers(0, len(labels), test_rows), random.random(test_rows)
    ids = [f"row {number}" for number in range(test_rows)]
    test = pl.DataFrame({"id": ids, "split_group": ids, "source": ["s<1>"] * 29 + ["s2"] * (test_rows - 29)})
    given = test.with_columns(label=pl.Series([labels[number] for number in target]))
    given = given.with_columns(
        text=pl.format("A sentence about <b>{}</b> that is good", "id"),
        reference_label=pl.lit(None, dtype=pl.String),
        near_duplicate_group="id",
        semantic_group="id",
    )
    given.write_parquet(root / "data/split/test.parquet", mkdir=True)
    # Of three raters the third is wrong.
    wrong = given.with_columns(label=pl.lit(labels[0]))
    ratings = pl.concat([given, given, wrong] if rated else [given.clear()]).select("id", "label")
    ratings.write_parquet(root / "data/clean/ratings.parquet", mkdir=True)
    for name, quality in QUALITY.items():
        total = max(PARAMETERS[name], 22_714_371 if name in ("lora", "linear_probe") else 0)
        sizes = {"trainable_parameters": PARAMETERS[name], "total_parameters": total, "artefact_mib": 87.1}
        sizes |= {"last_epoch_gain": 0.0}
        write_json(metrics / "finetune" / f"{name}.json", {"rows_train": 6290} | sizes)
        write_json(metrics / f"cost/finetune/{name}.json", {"train_seconds": SECONDS[name], "peak_memory_mib": 812.5})
        write_json(metrics / f"cost/evaluate/{name}.json", {"inference_ms_per_row": 2.3})
        scores = with_ends("accuracy", quality + 0.05) | with_ends("macro_f1", quality)
        grades = {"precision": 0.7, "recall": 0.7, "support": 20}
        per_class = {label: grades | {"f1": 0.7 - index / 1000} for index, label in enumerate(labels)}
        scores |= with_ends("brier_score", 0.5) | with_ends("log_loss", 0.9) | CALIBRATION
        rest = {"rows": test_rows, "seeds": 1, "per_class": per_class, "few_test_rows": {}}
        rest |= {"per_seed": {"0": {"macro_f1": quality, "accuracy": quality + 0.05}}}
        write_json(metrics / f"evaluate/{name}.json", rest | scores)
        perturbed = {"accuracy_before": quality, "accuracy_after": quality - 0.05}
        attack = {"attacked": 20, "succeeded": 13, **with_ends("success_rate", 0.65)}
        perturbed |= with_ends("accuracy_difference", -0.05)
        robust = {"rows": test_rows, "perturbations": {"typos": perturbed}, "attacks": {"bugs": attack}}
        write_json(metrics / "robustness" / f"{name}.json", robust)
        ended = root / f"data/robustness/{name}/attacks.parquet"
        tries = [("t1", "bugs", "fish & chips", "fsh & chips", "succeeded")]
        tries += [("t2", "bugs", "not this one", "not tihs one", "failed")]
        table("id attack before after result", *tries).write_parquet(ended, mkdir=True)
        of_row = np.where(luck < quality, target, (target + 1) % len(labels))
        file = root / predictions_file(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(format_predictions(ids, ids, test["source"].to_list(), labels, target, of_row[None], {}))
        actual, predicted = (np.array(labels)[each] for each in (target, of_row))
        # Of full those are surest that it gets wrong; `majority` says the same of each row.
        sure = np.full((test_rows, len(labels)), 0.5 / (len(labels) - 1))
        sure[np.arange(test_rows), of_row * (name != "majority")] = 0.5
        of_rows = given.select("id", "text", "label", "reference_label", target_label="label").with_columns(
            pl.Series("predicted_label", predicted),
            pl.Series("confidence", np.where(of_row == target, 0.5, 0.9)),
            *(pl.Series(f"probability_{label}", sure[:, place]) for place, label in enumerate(labels)),
        )
        of_rows.write_parquet(root / f"data/predictions/{name}/predictions.parquet", mkdir=True)
        path = metrics / "plots/confusion" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"actual": actual, "predicted": predicted}).write_csv(path)

    address = "write to me at jo@example.org & soon"
    changed = [
        ("t1", "html_to_text", "fish &amp; <b>chips</b>", "fish & chips"),
        ("t2", "html_to_text", "write to me at jo@example.org &amp; <i>soon</i>", address),
        ("t2", "redact_email", address, "write to me at [email] & soon"),
        ("t3", "collapse_white_space", "so   good\u00a0!", "so good !"),
        ("t4", "collapse_white_space", "x" * 900 + "  y", "x" * 900 + " y"),
    ]
    removed = [
        ("t5", "min_characters", "<script>alert(1)</script>", None, None),
        ("t6", "near_duplicate", "so very good !", None, "t3"),
        ("t7", "label_allowed", "raw jo@example.org", None, None),
    ]
    kept = {"t1": "fish & chips", "t2": "write to me at [email] & soon", "t3": "so good !"}
    judged = pl.Series([labels[1] if rated else None] * 3, dtype=pl.String)
    source = dict.fromkeys(("name", "file", "url", "licence", "retrieved", "authenticity", "sha256"), "a<b>")
    qualities = (("t1", 0.04, True), ("t2", 0.01, True), ("t3", 0.9, False))
    tables: dict[str, pl.DataFrame] = {
        "clean/changed": pl.DataFrame(changed, REMOVED_SCHEMA, orient="row"),
        "clean/removed": pl.DataFrame(removed, {**REMOVED_SCHEMA, "kept_id": pl.String}, orient="row"),
        "clean/records": pl.DataFrame({"id": list(kept), "text": list(kept.values()), "reference_label": judged}),
        "clean/duplicate_groups": table(
            "near_duplicate_group id is_kept source label text labels_differ",
            ("t3", "t3", True, "s", labels[0], "so good !", True),
            ("t3", "t6", False, "s", labels[1], "so very good !", True),
            ("t1", "t1", True, "s", labels[0], "fish & chips", False),
            ("t1", "t9", False, "s", labels[0], "fish & chips!", False),
        ),
        "profile/sources": pl.DataFrame([source | {"rows_in": 7908, "rows_clean": 7790}]),
        "profile/least_alike": table("id label neighbour_cosine text", ("t1", labels[0], 0.2, "odd <one>")),
        "semantic_duplicates/pairs": table(
            "cosine text label other_text other_label", (0.97, "so good", labels[0], "<i>", labels[1])
        ),
        "annotation_qa/disagreement": table(
            "id text disagreement ratings_good ratings_bad ratings_odd", ("t7", "so <b>", 0.9, 3, 2, 0)
        ),
        "label_errors/scores": table(
            "id label suggested_label label_quality is_label_error",
            *((name, *labels[:2], quality, is_error) for name, quality, is_error in qualities),
        ),
    }
    tables["corrected/changed"] = table("id rule", ("row 3", "relabel"), ("row 4", "confirm_label"), ("t1", "relabel"))
    for name, content in tables.items():
        content.write_parquet(root / f"data/{name}.parquet", mkdir=True)
    (root / "data/augmented").mkdir()
    pair = ("synonym", labels[0], "t1", "a <big> roof", "a <large> roof")
    table("recipe label parent_id before after", pair).write_csv(root / "data/augmented/pairs.csv")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path, ["negative", "neutral", "positive"])
    return tmp_path


class Page(HTMLParser):
    """Every tag with its attributes, and the tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "link", "br", "img", "hr", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def check_links(self) -> None:
        """Ids are unique, in-page links have a target, and nothing is loaded."""
        ids = [values.get("id") or "" for tag, values in self.tags if values.get("id") and tag != "pattern"]
        assert sorted(set(ids)) == sorted(ids)
        targets = {(values.get("href") or "").removeprefix("#") for tag, values in self.tags if tag == "a"}
        assert targets <= set(ids)
        assert [tag for tag, values in self.tags if "src" in values or ("href" in values and tag != "a")] == []


def written(folder: Path) -> str:
    """The page that the stage makes of the inputs in a folder, which is the working directory."""
    stamp_run_ids(folder)
    report.main()
    return (folder / "report/index.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write_inputs(folder, ["negative", "neutral", "positive"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return written(folder)


def test_summary_holds_scores_sizes_and_rows_and_nothing_of_a_clock(inputs: Path) -> None:
    written(inputs)
    summary = read_json(inputs / "metrics/summary.json")
    assert list(summary["approaches"]) == ["linear_probe", "lora", "full"]
    assert list(summary["baselines"]) == ["majority", "tfidf"]
    scores = {"accuracy": 0.77, "accuracy_ci95_low": 0.75, "accuracy_ci95_high": 0.79}
    scores |= {"macro_f1": 0.72, "macro_f1_ci95_low": 0.7, "macro_f1_ci95_high": 0.74}
    scores |= with_ends("brier_score", 0.5) | with_ends("log_loss", 0.9) | CALIBRATION
    sizes = {"trainable_parameters": 22714371, "total_parameters": 22714371, "artefact_mib": 87.1}
    sizes |= {"last_epoch_gain": 0.0}
    assert summary["approaches"]["full"] == {"rows": 1558, "seeds": 1} | scores | sizes
    assert summary["data"]["label_errors"] == {"rows_in": 5453, "rows_out": 4871, "removed": {"label_error": 582}}
    for rows in summary["data"].values():
        assert rows["rows_in"] == rows["rows_out"] + sum(rows["removed"].values())


def test_page_is_whole_and_loads_nothing(page: str) -> None:
    parsed = Page(page)
    parsed.check_links()
    assert parsed.open == []
    assert "url(http" not in page
    assert "@import" not in page
    assert [values for tag, values in parsed.tags if tag == "th" and "scope" not in values] == []


def test_page_is_the_same_for_the_same_inputs(inputs: Path) -> None:
    assert written(inputs) == written(inputs)


@pytest.mark.parametrize(
    ("shown", "hidden"),
    [
        (["full has the highest macro-F1, 0.720 on 1,558 test rows. It is better than each of the others."], []),
        # The paired test, the human scale, and a source of few rows.
        (["<td>0.002</td><td>worse</td>", "one rater, against the label", "s&lt;1&gt; (29 rows)", " of 29</td>"], []),
        (["Settings by hand, one seed: linear_probe, lora, full", "<td>0.060</td><td>0.020, 0.050</td>"], []),
        (["<td>402</td><td>812</td><td>22,714,371</td>", "<td>2.30</td>"], ["intervals overlap"]),
        # Text of the data is escaped.
        (["&lt;script&gt;alert(1)&lt;/script&gt;"], ["<script"]),
        # What was redacted is not shown, nor a row that was removed before it was clean.
        (["<del>" + "•" * 12 + "</del>", "<code>label_allowed</code>"], ["jo@", "example.org"]),
        # A duplicate stands beside the row kept.
        (['>so<del>␣very</del> good !</td><td class="text">so good !</td>'], []),
        # How well redaction works.
        (["0.988", "email, in han texts"], []),
        # Augmented examples stand beside their source examples.
        (["90 augmented examples were added to 6,200 train rows", "&lt;<ins>lar</ins>"], []),
        (["<code>unchanged</code> 30, <code>near_held_out</code> 11</td>"], []),
        (["reviews, rater or slot 20: gives what most others of the row give in 0.970 of its 3,685 ratings"], []),
        # What a model bears.
        (
            ["altered by <code>typos</code>", '-0.050 <span class="interval">[-0.070, -0.030]', "13 of 20"],
            ["not tihs one"],
        ),
        (["f<del>i</del>sh &amp; chips"], []),
        # Answers to the same questions.
        (["3 test questions with the answer of every model", "sft-lora says &lt;so&gt;", "(nothing)"], []),
        (["sft-qlora</strong> is not in the comparison: no 4-bit arithmetic here"], []),
        (["right on 83.0% [78.0, 88.0] of 201 held-out pairs"], []),
    ],
)
def test_the_page_shows(page: str, shown: list[str], hidden: list[str]) -> None:
    assert [text for text in shown if text not in page] == []
    assert [text for text in hidden if text in page] == []


def test_the_page_shows_what_was_collected_and_what_conflicts(page: str) -> None:
    section = page.split('<h2 id="collection">')[1].split("</section>")[0]
    shown = ("a&lt;b&gt;", "21, 76, 158", "11,847", "1 of 3 labels", "25.0%", "odd &lt;one&gt;", "&lt;i&gt;")
    assert [text for text in shown if text not in section] == []
    assert "<i>" not in section
    split = page.split("<h3>Split</h3>")[1].split("</details>")[0]
    of_split = ("59.3%", "every split has one: n&lt;g.", "<code>thread=&lt;17&gt;</code> has 54%", "7 shared")
    assert [text for text in (*of_split, "9 test rows") if text not in split] == []
    conflicting = page.split("Near-duplicates with different labels (1 groups)")[1].split("</details>")[0]
    assert "so very good !" in conflicting
    assert "fish" not in conflicting


def test_what_is_switched_off_is_not_named(inputs: Path) -> None:
    change(
        "",
        approaches=["tfidf", "linear_probe"],
        optional={name: [] for name in (*TRACK, "robustness")},
        sft_approaches=[],
        generation_models={},
    )
    page = written(inputs)
    Page(page).check_links()
    words = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()
    names = [
        *("lora", "qlora", "ppo", "rloo", "majority", "smollm2", "language model", "reward", "robust"),
        *("attack", "sft", "dpo"),
    ]
    assert [name for name in names if re.search(rf"(?<!\w){name}", words)] == []
    assert ">full<" not in page
    assert "minilm" in words
    summary = read_json(inputs / "metrics/summary.json")
    assert [*summary["approaches"], *summary["baselines"]] == ["linear_probe", "tfidf"]


def test_what_is_switched_on_and_not_there_yet_is_passed_over(inputs: Path) -> None:
    for name in ("metrics/optional", "metrics/cost", "metrics/robustness", "data/robustness", "data/generations"):
        shutil.rmtree(inputs / name)
    for name in ("sft_loss", "dpo", "ppo", "rloo"):
        shutil.rmtree(inputs / "metrics/plots" / name)
    (inputs / "metrics/evaluate/lora.json").unlink()
    page = written(inputs)
    assert 'id="generation"' not in page
    assert 'id="robustness"' not in page
    assert "<td>–</td><td>–</td><td>22,714,371</td>" in page  # of costs
    assert "<strong>lora</strong> is not in the comparison: not run on these data and params" in page
    named = page.split("Not run on these data and params, and left out: ")[1].split(";")[0].split(", ")
    assert {"robustness@full", "ppo", "compare_generation"} <= set(named)


def test_results_of_other_data_are_left_out_and_named(inputs: Path) -> None:
    written(inputs)
    for file in ("evaluate/lora", "robustness/full", "optional/reward", "optional/generation_summary"):
        path = inputs / f"metrics/{file}.json"
        write_json(path, read_json(path) | {"run_id": "0" * 12})
    report.main()
    page = (inputs / "report/index.html").read_text()
    assert "<strong>lora</strong> is not in the comparison: not run on these data and params" in page
    assert "left out: robustness@full, reward, compare_generation;" in page
    assert "sft-lora" not in page
    write_json(inputs / "metrics/clean.json", read_json(inputs / "metrics/clean.json") | {"run_id": None})
    with pytest.raises(InputError, match=r"metrics/clean\.json: not of these data and params"):
        report.main()


def test_assets_that_nothing_shown_reads_are_not_named(inputs: Path) -> None:
    change("", ingest={"path": "data/own", "sources": [{"name": "mine"}]})
    assert "vaderSentiment" in written(inputs)  # `minilm` of this fixture has the same source
    page = (inputs / "report/index.html").read_text()
    assert ">feedback<" not in page
    assert ">minilm<" in page


def test_a_part_of_the_generative_track_is_shown_alone(inputs: Path) -> None:
    change("", optional={"reward": ["default"], "dpo": []}, generation_models={})
    page = written(inputs)
    assert "The reward model is right on 83.0%" in page
    assert "SFT: loss on validation answers" in page
    assert "DPO" not in page
    assert "Models in pairs" not in page
    assert "Every language model" not in page


def test_names_of_approaches_are_escaped(inputs: Path) -> None:
    change("", approaches=["<b>"], finetune={"<b>": {"method": "full"}}, optional={"robustness": ["<b>"]})
    for folder in ("finetune", "evaluate", "robustness"):
        (inputs / f"metrics/{folder}/full.json").rename(inputs / f"metrics/{folder}/<b>.json")
    (inputs / "metrics/predictions/full.json").rename(inputs / "metrics/predictions/<b>.json")
    (inputs / "data/robustness/full").rename(inputs / "data/robustness/<b>")
    (inputs / "data/predictions/full").rename(inputs / "data/predictions/<b>")
    (inputs / "metrics/plots/confusion/full.csv").rename(inputs / "metrics/plots/confusion/<b>.csv")
    text = written(inputs)
    assert "&lt;b&gt;" in text
    assert re.search(r"<b>(?!\+|−)", text) is None


def test_many_labels_hide_the_numbers_and_fold_the_table(tmp_path: Path) -> None:
    labels = [f"intent_number_{index:02}" for index in range(77)]
    write_inputs(tmp_path, labels, rated=False)
    text = written(tmp_path)
    assert Page(text).open == []
    assert "Every label, lowest F1 first (77)" in text
    assert "<details open>" not in text
    assert 'class="on-dark"' not in text
    assert "The data has no ratings" in text
    assert "There is no reference label" in text


def test_errors_are_analysed_by_number_in_the_summary_and_by_text_on_the_page(inputs: Path) -> None:
    section = written(inputs).split("<h3>Errors by slice</h3>")[1].split("</section>")[0]
    found = read_json(inputs / "metrics/summary.json")["error_analysis"]
    tables = {one: pl.read_parquet(f"data/predictions/{one}/predictions.parquet") for one in QUALITY}
    wrong = {one: table.filter(pl.col("label") != pl.col("predicted_label"))["id"] for one, table in tables.items()}
    # `majority`, wrong most often, does not count.
    suspected = set.intersection(*(set(ids) for one, ids in wrong.items() if one != "majority"))
    assert (found["errors"], found["contradicted_by_all"]) == (len(wrong["full"]), len(suspected))
    assert found["slices"]["source"]["s<1>"].keys() == {"rows", "errors"}
    assert found["slices"]["true_label"]["neutral"]["verdict"] == "not decided"
    assert found["not_sliced"] == {"language": "en", "duplicates": "alone"}
    assert set(found["confused"]) == {"negative → neutral", "neutral → positive", "positive → negative"}
    assert found["decided_by_people"] == {"confirm_label": 1, "relabel": 1}
    assert "sentence" not in (inputs / "metrics/summary.json").read_text()
    first = min(wrong["full"])
    assert f"A sentence about &lt;b&gt;{first}&lt;/b&gt;" in section.split("Sure and wrong")[1]
    assert "correcting those alone can only raise scores" in section
    (inputs / "data/predictions/lora/predictions.parquet").unlink()
    with pytest.raises(InputError, match=r"data/predictions/lora/predictions\.parquet: missing; run"):
        report.main()


def test_missing_metric_names_the_file(inputs: Path) -> None:
    path = inputs / "metrics/evaluate/lora.json"
    values = read_json(path)
    del values["macro_f1"]
    write_json(path, values)
    with pytest.raises(InputError, match=r"metrics/evaluate/lora\.json: `macro_f1` is missing"):
        written(inputs)
    assert not (inputs / "metrics/summary.json").exists()


def test_without_approaches_there_is_nothing_to_compare(inputs: Path) -> None:
    change("", approaches=[])
    with pytest.raises(InputError, match="leaves nothing to compare"):
        written(inputs)


def test_a_skipped_approach_is_named_with_the_reason(inputs: Path) -> None:
    reason = "bitsandbytes cannot compute in 4 bits on this cpu: no kernel"
    for stage in ("finetune", "evaluate", "robustness"):
        write_json(inputs / f"metrics/{stage}/lora.json", {"left_out": reason})
    text = written(inputs)
    summary = read_json(inputs / "metrics/summary.json")
    assert list(summary["approaches"]) == ["linear_probe", "full"]
    assert summary["left_out"] == {"lora": reason}
    assert f"<strong>lora</strong> is not in the comparison: {reason}" in text


def test_without_recipes_the_page_says_so(inputs: Path) -> None:
    augment = read_json(inputs / "metrics/augment.json") | {"per_recipe": {}, "new_rows": 0}
    write_json(inputs / "metrics/augment.json", augment)
    (inputs / "data/augmented/pairs.csv").write_text("recipe,label,parent_id,before,after,cosine\n")
    assert "No recipe is on, so there are no augmented examples." in written(inputs)
