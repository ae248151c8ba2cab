"""Cards say what the metrics say, keep what people wrote, and hold nothing else."""

import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.results import write_metrics
from assay.report.comparison import say_verdict
from assay.report.sections import comparison_rows
from tests.own_params import change
from tests.own_process import run_main
from tests.own_results import stamp_run_ids
from tests.stages.test_report import write_inputs, written
from tools.cards import make_cards

KEY = "planted-0123456789"
HOSTILE = "](http://a.example) <b>|_x_ `y` <!-- /generated: data -->\n---\n# www.b.example"
SOURCE = {"name": "tweets", "url": f"https://me:{KEY}@data.example/a", "licence": "CC BY 4.0", "retrieved": None}
SOURCE |= {"authenticity": "real"}
MODEL, DATA = Path("cards/full/MODEL_CARD.md"), Path("cards/DATA_CARD.md")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pipeline leaves, `report` too."""
    root = tmp_path_factory.mktemp("measured")
    write_inputs(root, ["negative", "neutral", "positive"])
    lock = {"stages": {"split": {"outs": [{"path": "data/split/test.parquet", "md5": "5d7c"}]}, "fetch@a": {}}}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("assay.report.comparison.SAMPLES", 200)
        change("ingest", sources=[SOURCE])
        change("", split={"group_column": "review", "given_column": None}, label_errors={"action": "review"})
        written(root)
    return root


@pytest.fixture
def project(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(measured, tmp_path / "project"))
    monkeypatch.setenv("HF_TOKEN", KEY)
    return Path()


def test_headers_and_figures_are_those_of_the_metrics(project: Path) -> None:
    run_main(make_cards)
    model, data, card = ModelCard.load(MODEL).data, DatasetCard.load(DATA).data, MODEL.read_text()
    scores, summary = read_json("metrics/evaluate/full.json"), read_json("metrics/summary.json")
    ends = {key: [scores[f"{key}_ci95_low"], scores[f"{key}_ci95_high"]] for key in ("macro_f1", "accuracy")}
    found = {one.metric_type: (one.metric_value, one.metric_args["ci95"]) for one in model.eval_results}
    assert found == {"f1": (scores["macro_f1"], ends["macro_f1"]), "accuracy": (scores["accuracy"], ends["accuracy"])}
    assert (model.license, model.license_name) == ("other", "cc-by-4.0-and-mit")
    assert (model.base_model, model.datasets, model.library_name) == ("minilm", ["tweets"], "transformers")
    assert (data.license, data.pretty_name, data.size_categories) == ("cc-by-4.0", "tweets", ["1K<n<10K"])
    for shown in (
        *(f"| {' | '.join(row)} |" for row in comparison_rows(summary)),
        say_verdict(summary),
        "| email | 200 | 0.988 [0.988, 0.988] | 0.977 [0.977, 0.977] |",
        "| clean | 7,900 | 7,790 | 61 exact_duplicate, 49 near_duplicate |",
        "Calibration error 0.060, where a calibrated model with the same confidences has 0.020",
        "By typos, accuracy changes from 0.720 to 0.670, by -0.050 [-0.070, -0.030]",
        "| training, seconds | 402 |",
        "| data/split/test.parquet | 5d7c |",
        "from <https://data.example/a>, licence CC BY 4.0, day of retrieval unknown",
    ):
        assert shown in card
    assert [str(path) for path in Path("cards").rglob("*.md") if KEY in path.read_text()] == []


def test_what_a_language_model_memorises_is_said(project: Path) -> None:
    one = {"exposure": 4.0, "exposure_ci95_low": 3.0, "exposure_ci95_high": 5.0, "extracted": 1, "canaries": 6}
    models = {name: {"repeated": {"16": one}} for name in ("base", "as_written", "redacted")}
    change("", sft_approaches=["lora", "full"])
    write_metrics("metrics/ablation/memorisation/lora.json", {"models": models, "chance_exposure": 1.375})
    run_main(make_cards, "full")
    card = MODEL.read_text()
    assert "sft-lora: canaries planted 16 times: exposure 4.000 [3.000, 5.000] bits, 1 of 6 extracted" in card
    assert "sft-full: not measured: `make ablation`" in card


def test_what_people_wrote_stays(project: Path) -> None:
    run_main(make_cards, "full")
    own = MODEL.read_text().replace("license: other\nlicense_name: cc-by-4.0-and-mit", "license: mit\nthumbnail: a.png")
    own = own.replace("Not yet written.\n", r"Not for \1 \g<0> of ours." + "\n")
    without_scores = make_cards.PART.sub(lambda part: part[0] if part[1] != "scores" else "", own)
    MODEL.write_text(without_scores.replace("| training, seconds | 402 |", "| training, seconds | 1 |"))
    run_main(make_cards, "full")
    assert sorted(filter(None, MODEL.read_text().splitlines())) == sorted(filter(None, own.splitlines()))
    make_cards.write_cards(make_cards.read_values(), ["full"], "merged", Path("exported"))
    exported = Path("exported/MODEL_CARD.md").read_text()
    assert r"Not for \1 \g<0> of ours." in exported
    assert "the adapter merged into the base" in exported
    for broken, problem in (("<!-- generated: a -->\n", "a generated part needs"), ("---\n- a\n---\n", "its header")):
        MODEL.write_text(broken)
        with pytest.raises(InputError, match=f"^{MODEL}: {problem}"):
            run_main(make_cards, "full")


def test_what_did_not_run_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("summary", "clean", "annotation_qa", "robustness/full", "cost/finetune/full", "cost/evaluate/full"):
        Path(f"metrics/{name}.json").unlink()
    write_json("metrics/evaluate/lora.json", {"left_out": "no memory"})
    stamp_run_ids(project)
    run_main(make_cards)
    for sentence in (
        "There are no scores: `evaluate` or `report` did not run",
        "No rule that redacts personal data is on, or cleaning did not run",
        "The agreement of raters was not measured",
        "There is no human scale",
        "What typing errors and other words do to it was not measured.",
        "They were not measured on this machine.",
    ):
        assert sentence in MODEL.read_text()
    assert "not on this machine: lora" in capsys.readouterr().out
    with pytest.raises(InputError, match="lora: no card: no memory; cards can be made of majority, tfidf"):
        run_main(make_cards, "lora")


def test_texts_of_the_data_become_no_markup(project: Path) -> None:
    change("ingest", sources=[SOURCE | {"url": HOSTILE, "licence": HOSTILE}])
    split = read_json("metrics/split.json")
    write_json("metrics/split.json", split | {"per_label": {HOSTILE: split["per_label"]["n<g"]}})
    stamp_run_ids(project)
    for _ in range(2):
        run_main(make_cards, "full")
    for text in (file.read_text().partition("\n---\n")[2] for file in (MODEL, DATA)):
        for markup in (" ](http", "<b>", "|_x", " `y`", "data --> ", "\n---\n", "\n# www", " www.b"):
            assert markup not in text
        assert make_cards.PART.findall(text).count("data") == 1
    assert make_cards.escape_markdown("a_b  *c*\n|d| x](y) :// _e www.a") == r"a_b \*c\* \|d\| x\](y) \:// \_e www\.a"
