import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.seeds import generator
from assay.generation_metrics import tasks
from assay.generation_metrics.tasks import MODES
from assay.human_review.preference_judgements import HEADER, hash_question
from assay.language_models.chat_template import MESSAGES, add_answers
from assay.statistics.bootstrap import item_counts
from assay.statistics.predictions import hash_name
from assay.statistics.verdicts import holm, paired_difference
from stages import compare_generation, evaluate_generation
from tests.own_process import run_main, run_python
from tests.policy_workspace import COMPUTE, GREEDY, bytes_below, change, chat, write_models

REFUSAL = "I do not know."
PARAMS: dict[str, Any] = {
    "seed": 3,
    "compute": COMPUTE,
    "decoding": GREEDY | {"max_new_tokens": 12},
    "language_model": "models/sft/full",
    "template_arguments": {},
    "generation_models": {"base": "models/base", "sft-lora": "models/sft/lora", "sft-qlora": "models/sft/qlora"},
    "evaluate_generation": {"rows": {"answer": 8, "unanswerable": None, "label": 4}}
    | {"answered": ["open", "retrieved", "unanswerable"], "rewarded": ["open", "unanswerable"]}
    | {"batch_size": 4, "bootstrap_samples": 100},
    "compare_generation": {"pairs": [{"model": f"sft-{name}", "against": "base"} for name in ("lora", "qlora")]}
    | {"bootstrap_samples": 100},
}
LABELS = ["positive", "negative", "neutral"]


def write_prompts(path: Path) -> None:
    """Ten questions in three modes, five unanswerable ones, five of the label task."""
    rows = []
    for number in range(20):
        task = ("answer", "answer", "unanswerable", "label")[number % 4]
        known = f"It takes {number} weeks."
        answer = {"answer": known, "unanswerable": REFUSAL, "label": LABELS[number // 4 % 3]}[task]
        asked: Any = {"id": f"faq:{number}", "group": f"faq:{number}", "task": task, "category": "permits"}
        asked |= {"question": f"How long? {number}", "answer": answer, "labels": LABELS if task == "label" else []}
        asked |= {"messages": add_answers([chat(number)], [answer])[0]}
        shown = {"open": ["Nobody knows.", known], "retrieved": ["It takes ages.", "Nobody knows."], "closed": []}
        for mode, context in shown.items() if task == "answer" else [(task, [])]:
            nearest = {"context": context, "answer_in_context": known in context, "nearest": 1 if context else None}
            rows.append(asked | {"mode": mode} | nearest)
    types = {"messages": MESSAGES, "context": pl.List(pl.String), "labels": pl.List(pl.String)}
    pl.DataFrame(rows, schema_overrides=types).write_parquet(path, mkdir=True)


@pytest.fixture(autouse=True)
def workspace(tiny_chat_model: Path) -> None:
    write_prompts(evaluate_generation.PROMPTS)
    write_models(tiny_chat_model)
    Path("data/preferences.csv").write_text(HEADER + "\n")
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))


def evaluate(model: str) -> dict[str, Any]:
    run_main(evaluate_generation, model)
    metrics: dict[str, Any] = read_json(evaluate_generation.METRICS / f"{model}.json")
    return metrics


def test_every_mode_has_its_scores() -> None:
    measured = evaluate("sft-lora")
    assert {mode: measured[mode]["rows"] for mode in MODES} == dict(zip(MODES, (8, 8, 8, 5, 4), strict=True))
    assert {mode: measured[mode]["answered"] for mode in MODES} == dict(zip(MODES, (8, 8, 0, 5, 4), strict=True))
    assert {"chrf", "refused_count", "tokens", "reward"} <= set(measured["open"])
    # Where the model does not answer, and in which modes a judge does.
    assert set(measured["closed"]) == {"rows", "answered", "perplexity"}
    assert ("reward" in measured["retrieved"], measured["retrieved"]["held"]) == (False, 0)
    # So few rows are counted, and have no interval.
    assert measured["label"]["exact_match_rows"] == 4
    assert "ci95" not in json.dumps({mode: measured[mode] for mode in MODES})
    assert (measured["device"], measured["precision"]) == ("cpu", "float32")
    costs = {"tokens_per_second", "answer_seconds", "seconds", "peak_memory_mib"}
    assert set(read_json(evaluate_generation.COSTS / "sft-lora.json")) == costs

    answers = pl.read_parquet(evaluate_generation.OUTPUT / "sft-lora/answers.parquet")
    assert answers["tokens"].max() <= 12  # type: ignore[operator]
    for mode in MODES:
        of_mode = answers.filter(mode=mode)
        expected = float(of_mode["negative_log_likelihood"].sum()) / float(of_mode["reference_tokens"].sum())
        assert measured[mode]["perplexity"] == pytest.approx(math.exp(expected), rel=1e-4), mode
    assert answers.filter(pl.col("reward").is_not_null())["mode"].unique().sort().to_list() == ["open", "unanswerable"]
    assert set(answers.filter(mode="label")["answer"]) <= set(LABELS)


def test_scores_by_question_stand_in_git_without_ids() -> None:
    evaluate("base")
    kept = read_json(evaluate_generation.PREDICTIONS / "base.json")
    answers = pl.read_parquet("data/generations/base/answers.parquet")
    assert kept["columns"] == ["row", "group", "mode", "chrf", "refused", "label_right"]
    assert {tuple(row[:3:2]) for row in kept["rows"]} == {
        (hash_name(id_), mode) for id_, mode in answers.select("id", "mode").iter_rows()
    }
    assert "faq:" not in json.dumps(kept)
    by_row = {(row[0], row[2]): row[3:] for row in kept["rows"]}
    first = answers.filter(mode="open").row(0, named=True)
    chrf = pytest.approx(first["chrf"], abs=1e-4)
    assert by_row[hash_name(first["id"]), "open"] == [chrf, first["refused"], None]


def test_words_beside_copying_follow_from_what_is_in_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MIN_ROWS", 3)
    for name in PARAMS["generation_models"]:
        evaluate(name)
    compare_generation.main()
    found = read_json(compare_generation.METRICS)["beside_copying"]
    assert {mode: list(of_mode) for mode, of_mode in found.items()} == {
        mode: ["base", "sft-lora"] for mode in tasks.COPIED
    }
    p = {}
    for mode, name in itertools.product(found, ("base", "sft-lora")):
        kept = read_json(evaluate_generation.PREDICTIONS / f"{name}.json")
        rows, others = ([row for row in kept[key] if row[2] == mode] for key in ("rows", "copied"))
        assert [row[:2] for row in rows] == [row[:2] for row in others]
        groups, of_row = np.unique([row[1] for row in rows], return_inverse=True)
        random = generator(PARAMS["seed"], "compare_generation", mode)
        counts = np.concatenate([np.ones((len(groups), 1)), *item_counts(len(groups), 100, random)], axis=1)[of_row]
        one, copied = (np.array([row[3] for row in of]) @ counts / counts.sum(axis=0) for of in (rows, others))
        p[mode, name] = paired_difference(one, copied).p
        assert found[mode][name]["chrf_difference"] == pytest.approx(one[0] - copied[0], abs=2e-4)
    for (mode, name), adjusted in zip(p, holm([*p.values()]), strict=True):
        sign = "better" if found[mode][name]["chrf_difference"] > 0 else "worse"
        assert found[mode][name]["word"] == (sign if adjusted < 0.05 else "not decided")
        assert found[mode][name]["adjusted_p"] == pytest.approx(adjusted, rel=1e-5)


@pytest.mark.slow
def test_the_same_bytes_for_any_hash_seed() -> None:
    written = []
    for hash_seed in ("0", "1"):
        run_python("-m", "stages.evaluate_generation", "sft-lora", PYTHONHASHSEED=hash_seed)
        written.append(bytes_below("data/generations"))
    assert written[0] == written[1]


def test_a_skipped_model_stays_so() -> None:
    assert evaluate("sft-qlora")["left_out"] == "no 4-bit arithmetic here"
    assert read_json(evaluate_generation.COSTS / "sft-qlora.json") == {"left_out": "no 4-bit arithmetic here"}


def test_without_a_reward_model_there_are_no_rewards(capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(evaluate_generation.REWARD_MODEL)
    for name in PARAMS["generation_models"]:
        measured = evaluate(name)
        assert "reward" not in json.dumps(measured)
    assert "no reward model in models/reward/model: answers get no reward" in capfd.readouterr().err
    answers = pl.read_parquet("data/generations/base/answers.parquet")
    assert "reward" not in answers.columns
    compare_generation.main()
    summary = read_json(compare_generation.METRICS)
    assert "chrf_difference" in summary["pairs"]["sft-lora_against_base"]["open"]
    assert "reward" not in json.dumps(summary)


def test_a_model_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(InputError, match="`generation_models` has no 'sft-ful'; there are base, sft-lora, sft-qlora"):
        evaluate("sft-ful")


def test_models_are_compared_pair_by_pair(capsys: pytest.CaptureFixture[str]) -> None:
    for name in PARAMS["generation_models"]:
        evaluate(name)
    base, tuned = (pl.read_parquet(f"data/generations/{name}/answers.parquet")["id"] for name in ("base", "sft-lora"))
    assert base.to_list() == tuned.to_list()
    first, second, third = base.head(3)
    lines = [
        f"{first},one,two,a,ann,2026-11-23,sft-lora,base",
        f"{second},one,two,a,ann,2026-11-23,base,sft-lora",
        f"{second},one,two,tie,bob,2026-11-23,base,sft-lora",
        f"{third},one,two,a,ann,2026-11-23,dpo,base",  # another pair
        "other:1,one,two,a,ann,2026-11-23,sft-lora,base",  # not a test prompt
        f"{third},one,two,a,ann,2026-11-23,sft-lora,base,{hash_question('What was asked before?')}",
    ]
    Path("data/preferences.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    change("compare_generation", pairs=[*PARAMS["compare_generation"]["pairs"], {"model": "dpo", "against": "base"}])
    compare_generation.main()
    summary = read_json(compare_generation.METRICS)
    assert summary["pairs_skipped"] == {"dpo_against_base": "dpo not in generation_models"}
    assert "dpo_against_base skipped: dpo not in generation_models" in capsys.readouterr().err
    assert list(summary["models"]) == ["base", "sft-lora"]
    assert summary["left_out"] == {"sft-qlora": "no 4-bit arithmetic here"}
    assert list(summary["pairs"]) == ["sft-lora_against_base"]
    found = summary["pairs"]["sft-lora_against_base"]
    scores = summary["models"]
    ratio = scores["sft-lora"]["open"]["perplexity"] / scores["base"]["open"]["perplexity"]
    assert found["open"]["perplexity_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert 0 <= found["open"]["reward_win_rate"] <= 1
    # Copying the nearest passage says all of the true answer where it is shown; the labels' first is the majority's.
    assert summary["baselines"]["copy_nearest"]["open"]["chrf"] == pytest.approx(1.0)
    assert summary["baselines"]["copy_nearest"]["retrieved"]["chrf"] < 0.5
    assert "closed" not in summary["baselines"]["copy_nearest"]
    assert summary["baselines"]["always_refuse"]["unanswerable"]["refused_count"] == 5
    assert summary["baselines"]["majority_label"]["label"]["exact_match"] in (0.25, 0.5)
    assert summary["beside_copying"] == {}  # too few questions
    # Two prompts: one won; of the other's two judgements one lost and one tied.
    assert (found["people_judgements"], summary["judgements_prompt_changed"]) == (3, 1)
    assert found["people_win_rate"] == pytest.approx((1.0 + 0.0 + 0.5) / 3, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("dop", r"pairs.0` names 'dop'; `generation_models` has base, "),
        ("base", r"pairs.0` compares 'base' with itself"),
    ],
)
def test_a_pair_of_what_nothing_knows_or_of_one_model_is_an_error(model: str, message: str) -> None:
    change("compare_generation", pairs=[{"model": model, "against": "base"}])
    with pytest.raises(InputError, match=message):
        compare_generation.main()
