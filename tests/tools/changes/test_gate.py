"""May a branch be merged: on branches whose models were really trained, and by rules one by one."""

import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from assay.core.outputs import write_json
from assay.core.params import load_params
from assay.statistics.verdicts import Difference
from tests.own_process import commit_all, run_main
from tests.template_params import FILE
from tests.tools.changes.simulated_branches import (
    predictions_text,
    train_and_predict,
    true_labels,
    write_questions,
    write_side,
)
from tools.changes import gate, pull_request
from tools.changes.gate import BLOCKED, INCONCLUSIVE, PASS, GateParams, judge_drop, training_cost
from tools.changes.paired import NO_DIFFERENCE, SAME, Paired, compare_sides
from tools.changes.sides import Key

PARAMS = load_params("gate", GateParams, FILE)


@pytest.fixture
def branch(tmp_path: Path) -> Path:
    """A repository whose base has predictions of two models; the working tree is the branch."""
    write_side(tmp_path, {"lora": train_and_predict(), "tfidf": train_and_predict(exchanged=0.47)})
    commit_all()
    return tmp_path


def run_gate(base: str = "main") -> tuple[int, str]:
    """Exit status and what is printed."""
    with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()) as printed:
        run_main(gate, base)
    return int(str(ended.value.code)), printed.getvalue()


def comment() -> list[str]:
    """Lines of the pull-request comment that stand above the tables."""
    run_main(pull_request, "main")
    text = Path("report/pull_request.md").read_text(encoding="utf-8")
    lines = [line for line in text.partition("<details>")[0].splitlines() if line]
    assert len(lines) <= 12  # the marker, ten lines, and what they are against
    return lines


def test_labels_exchanged_on_half_of_the_train_rows_are_worse_and_blocked(branch: Path) -> None:
    write_side(branch, {"lora": train_and_predict(exchanged=0.5), "tfidf": train_and_predict(exchanged=0.47)})
    _, title, verdict, worse, others, *_ = comment()
    assert title == "### Worse than on `main`: `lora`"
    assert verdict.startswith("- **Gate: blocked**, do not merge this as it is (scores that drop, allowed is a drop of")
    assert re.match(r"- \*\*Worse\*\*: `lora` macro-F1 0\.771 → 0\.447, −0\.323 \[−0\.3\d+, −0\.3\d+\]$", worse)
    assert others == "- **Others**: same predictions: `tfidf`"
    status, printed = run_gate()
    assert status == 1
    assert [line.split()[0] for line in printed.splitlines()] == ["pass", "blocked", "blocked", *["pass"] * 4, "gate:"]


def test_another_seed_is_not_decided_and_passes_and_so_do_the_same_predictions(branch: Path) -> None:
    assert comment()[1] == "### Every prediction is as on `main`"
    assert run_gate()[0] == 0
    write_side(branch, {"lora": train_and_predict(seed=1), "tfidf": train_and_predict(exchanged=0.47)})
    _, title, verdict, undecided, *_ = comment()
    assert title == "### No score is decidedly better or worse than on `main`"
    assert verdict == "- **Gate: pass**, no rule of `gate` in params.yaml is broken"
    assert re.match(
        r"- \*\*Not decided\*\*: `lora` macro-F1 0\.771 → 0\.773, \+0\.002 \[−0\.00\d, \+0\.00\d\]\. A", undecided
    )
    assert run_gate()[0] == 0


def test_what_another_seed_would_change_counts_where_training_differs(branch: Path) -> None:
    predicted = {"lora": train_and_predict(exchanged=0.4), "tfidf": train_and_predict(exchanged=0.45)}
    write_side(branch, predicted)
    assert comment()[1] == "### Worse than on `main`: `lora`; better than on `main`: `tfidf`"
    write_side(branch, predicted, seed_deviation=0.05)
    lines = comment()
    assert lines[1] == "### Better than on `main`: `tfidf`"  # which no seed changes
    assert re.search(r"`lora` macro-F1 0\.771 → 0\.745, −0\.026 \[−0\.1\d+, \+0\.1\d+\]", "\n".join(lines))


def test_another_test_set_is_not_comparable_but_on_the_common_rows(branch: Path) -> None:
    truth = true_labels()
    truth[:10] = (truth[:10] + 1) % 3
    write_side(branch, {"lora": train_and_predict(exchanged=0.5)}, truth, range(1460))
    lines = comment()
    on_common = "on the 1,450 common rows worse than on `main`: `lora`"
    assert lines[1] == f"### Not comparable: `main` has another test set; {on_common}"
    rows = next(line for line in lines if "**Rows**" in line)
    assert re.search(r"\*\*test rows 40 removed \(`\w{12}`, `\w{12}` and 38 more\), 10 with another label \(", rows)
    text = Path("report/pull_request.md").read_text(encoding="utf-8")
    assert re.search(r"`evaluate/lora` `accuracy` \| 0\.\d+ \| 0\.\d+ \| not comparable", text)
    assert "<summary>Test rows that differ (50)</summary>" in text
    assert re.search(r"\| `\w{12}` \| `?bad → fine`? \|", text)
    assert run_gate()[0] == 1
    write_side(branch, {"lora": train_and_predict(seed=1)}, truth, range(1000, 1460))
    status, printed = run_gate()
    assert "inconclusive  test rows in common: 460 of 1,500; allowed: at least 90.0%" in printed
    assert "blocked       rows removed: 69.3% of test, 0.0% of train; allowed: at most 5.0%" in printed
    assert status == 1


def test_what_changed_in_the_data_and_the_cost(branch: Path) -> None:
    write_json(branch / "metrics/label_errors.json", {"rows_out": 1000, "relabelled": 0})
    write_json(branch / "metrics/correct.json", {"relabelled": 0})
    commit_all()
    write_json(branch / "metrics/label_errors.json", {"rows_out": 900, "relabelled": 40})
    write_json(branch / "metrics/correct.json", {"relabelled": 20})
    write_json(branch / "metrics/cost/finetune/lora.json", {"train_seconds": 150, "peak_memory_mib": 950})
    write_json(branch / "metrics/cost/finetune/tfidf.json", {"train_seconds": 60, "peak_memory_mib": None})
    status, printed = run_gate()
    assert status == 1
    assert printed.splitlines()[-4:] == [
        "blocked       rows removed: 0.0% of test, 10.0% of train; allowed: at most 5.0%",
        "blocked       labels changed: 0.0% of test, 6.0% of train; allowed: at most 5.0%",
        "blocked       cost of training: 120 → 210 train seconds (1.75 times), at most 900 → 950 MiB; allowed: at most"
        " 1.50 times as much",
        "gate: blocked, against main",
    ]
    lines = comment()
    assert "- **Cost** of training: 120 → 210 train seconds (1.75 times), at most 900 → 950 MiB" in lines
    assert any("labels corrected 0 → 20; changed by the detector 0 → 40" in line for line in lines)


def test_cpu_seconds_are_compared_where_both_sides_have_them() -> None:
    keys: list[Key] = [
        ("cost/sft/lora", measure) for measure in ("train_cpu_seconds", "train_seconds", "peak_memory_mib")
    ]
    old, new = (dict(zip(keys, values, strict=True)) for values in ((100.0, 90.0, 900.0), (150.0, 80.0, 900.0)))
    assert training_cost(old, new) == ("100 → 150 train CPU seconds (1.50 times), at most 900 MiB", 1.5)


def test_without_predictions_or_a_base_the_gate_cannot_tell(branch: Path) -> None:
    assert run_gate("no-such-branch")[0] == 2
    for file in (branch / "metrics/predictions").iterdir():
        file.unlink()
    status, printed = run_gate()
    assert status == 2
    assert "inconclusive  score of lora: no predictions for the same rows on both sides" in printed


def score_of(value: float, low: float, high: float, word: str, detectable: float = 0.04) -> Paired:
    return Paired(
        "lora", "macro-F1", 900, 0.8, 0.8 + value, Difference(value, low, high, 0.5, detectable), True, [], word
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (score_of(0.0, -0.02, 0.02, "not decided"), PASS),  # the interval lies above the allowed drop
        (score_of(-0.02, -0.029, -0.01, "worse"), PASS),  # decided, and smaller than the allowed drop
        (score_of(-0.03, -0.05, -0.01, "worse"), BLOCKED),
        (score_of(-0.05, -0.08, -0.04, "not decided"), BLOCKED),  # not after Holm, but wholly below the allowed drop
        (score_of(-0.02, -0.05, 0.01, "not decided"), INCONCLUSIVE),  # the test would have missed the allowed drop
        (score_of(-0.012, -0.031, 0.007, "not decided", detectable=0.028), PASS),  # it would have found it
        (replace(score_of(0, 0, 0, "not decided"), difference=Difference(-0.1, None, None, 1, None)), INCONCLUSIVE),
        (replace(score_of(0.0, 0, 0, SAME), difference=NO_DIFFERENCE), PASS),
    ],
)
def test_what_is_said_of_a_drop(one: Paired, expected: str) -> None:
    assert PARAMS.largest_drop == 0.03
    assert judge_drop(one, PARAMS)[0] == expected


def test_more_power_asks_for_more_rows() -> None:
    one = score_of(-0.012, -0.031, 0.007, "not decided", detectable=0.028)
    outcome, seen = judge_drop(one, PARAMS.model_copy(update={"power": 0.95}))
    assert outcome == INCONCLUSIVE
    assert seen.endswith("not decided; finds a drop of 0.036")  # 0.028 · (1.960 + 1.645) / (1.960 + 0.842)


def test_the_guarded_approach_is_chosen_on_validation_rows(branch: Path) -> None:
    write_json(branch / "metrics/finetune/tfidf.json", {"validation_macro_f1": 0.9})
    commit_all()
    assert "score of tfidf: `tfidf` macro-F1 0.521 → 0.521, ±0.000, same predictions" in run_gate()[1]
    write_side(branch, {"lora": train_and_predict()})
    status, printed = run_gate()
    assert "inconclusive  score of tfidf: no predictions for the same rows on both sides" in printed
    assert status == 2


def test_language_models_are_compared_by_question(branch: Path) -> None:
    chrf, noise = np.random.default_rng(0).random((2, 98))
    write_questions(branch, chrf)
    commit_all()
    write_questions(branch, chrf - 0.2 * noise)
    lines = comment()
    assert lines[1] == "### Worse than on `main`: `base`"
    assert re.match(r"- \*\*Worse\*\*: `base` chrF, retrieved 0\.542 → 0\.\d+, −0\.\d+ \[−0\.\d+, −0\.\d+\]", lines[3])
    assert lines[4] == "- **Others**: same predictions: `lora`, `tfidf`, `base`"
    write_questions(branch, chrf + 0.4 * (noise - noise.mean()))
    assert "- **Not decided**: `base` chrF, retrieved 0.542 → 0.542, " in "\n".join(comment())
    assert run_gate()[0] == 0
    write_questions(branch, chrf[:20])  # too few in common
    assert comment()[1] == "### Every prediction is as on `main`"


@pytest.mark.slow
def test_changes_that_change_nothing_are_seldom_worse() -> None:
    """1,000 branches whose three models are as good as the base's: at most 5% have one that is called worse."""
    random, rows, worse = np.random.default_rng(5), 300, 0
    truth = random.integers(0, 3, rows)
    for _ in range(1000):
        ease, sides = random.beta(4, 1, rows), []
        for _side in range(2):
            guesses = [(truth + random.integers(1, 3, rows)) % 3 for _model in range(3)]
            predicted = [np.where(random.random(rows) < ease, truth, guess) for guess in guesses]
            sides.append({f"m{i}": predictions_text(one, truth, range(rows)) for i, one in enumerate(predicted)})
        worse += any(one.word == "worse" for one in compare_sides(sides[0], sides[1], {}, 400)[1])
    assert 0 < worse <= 50
