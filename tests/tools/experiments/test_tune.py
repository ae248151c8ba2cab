"""`make tune` with real experiments of DVC on a pipeline of one stage, which fits nothing and scores its params."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from assay.core.errors import InputError
from tests.own_process import commit_all, git, run_main, run_python
from tests.template_params import FILE
from tools.experiments import tune

FINETUNE = FILE.read_text(encoding="utf-8").partition("\nfinetune:")[2].partition("\nevaluate:")[0].rstrip()
BLOCK = f"seed: 3   # of everything\nfinetune:{FINETUNE}   # on one line\n".replace(
    "learning_rate: 0.001\n  qlora:", "learning_rate: 0.5\n  qlora:"
)
PIPELINE = """\
stages:
  finetune:
    matrix: {approach: [lora]}
    cmd: python fit.py
    deps: [fit.py]
    params: [finetune.defaults, "finetune.${item.approach}"]
    metrics:
      - metrics/finetune/${item.approach}.json: {cache: false}
"""
FIT = """\
import json, math, pathlib, yaml
block = yaml.safe_load(open("params.yaml"))["finetune"]["lora"]
if block["rank"] == 13:
    raise SystemExit("error: 13 is no good rank")
score = 1 - abs(math.log10(block["learning_rate"]) + 3) / 10
pathlib.Path("metrics/finetune").mkdir(parents=True, exist_ok=True)
open("metrics/finetune/lora.json", "w").write(json.dumps({"validation_macro_f1": score}))
"""
"""Best at a learning rate of 0.001."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after its first run, committed."""
    folder = tmp_path_factory.mktemp("started")
    for name, text in (("params.yaml", BLOCK), ("dvc.yaml", PIPELINE), ("fit.py", FIT)):
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        commit_all()
        for command in ("init -q", "config core.analytics false", "repro -q"):
            run_python("-m", "dvc", *command.split())
        commit_all()
    return folder


@pytest.fixture
def project(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(started, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    return tmp_path / "project"


def tuned(spaces: str, trials: int = 3, approach: str = "lora") -> None:
    Path("spaces.yaml").write_text(spaces)
    run_main(tune, approach, "--trials", str(trials), "--spaces", "spaces.yaml")


@pytest.mark.slow
def test_the_best_trial_goes_into_the_params_and_nothing_else_changes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned("lora: {learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}, weight_decay: {choices: [0.5]}}")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tune-lora-")]
    scores = {line.split(":")[0]: float(line.split()[2]) for line in lines}
    assert list(scores) == ["tune-lora-1", "tune-lora-2", "tune-lora-3"]
    best = max(scores, key=lambda name: scores[name])
    assert set(scores) <= set(run_python("-m", "dvc", "exp", "list", "--name-only").stdout.split())

    text = Path("params.yaml").read_text()
    block = yaml.safe_load(text)["finetune"]["lora"]
    assert 1e-4 <= block["learning_rate"] <= 1e-2
    assert block["weight_decay"] == 0.5
    new = [line for line in text.splitlines() if line not in BLOCK.splitlines()]
    # The second is in the block from now on, and no longer taken from the defaults.
    assert [line.split(":")[0] for line in new] == ["    weight_decay", "    learning_rate"]
    assert all(f"# {best}: validation macro-F1 0.9" in line and "best of 3 trials" in line for line in new)
    assert [line for line in BLOCK.splitlines() if line not in text.splitlines()] == ["    learning_rate: 0.5"]
    # The working tree is not touched but for that: not by trials, and nothing is committed.
    assert git("status", "--short", "--untracked-files=no").split() == ["M", "params.yaml"]


def test_a_block_on_one_line_is_spread_for_the_comments() -> None:
    text = tune.with_settings(BLOCK, "full", {"learning_rate": 0.1, "max_epochs": 5}, "tune-full-1: best")
    start, _ = BLOCK.split("  full: ")
    assert text.startswith(start)
    assert [re.sub(" +#", " #", line) for line in text.removeprefix(start).splitlines()] == [
        "  full: # on one line",
        "    seeds: [0, 1, 2]",
        "    method: full",
        "    learning_rate: 0.1 # tune-full-1: best",
        "    max_epochs: 5 # tune-full-1: best",
    ]


@pytest.mark.slow
def test_settings_that_no_trial_beats_stay(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned("lora: {learning_rate: {low: 0.6, high: 0.9, log: false}}", trials=1)
    assert "none of 1 trials beats" in capsys.readouterr().out
    assert Path("params.yaml").read_text() == BLOCK


@pytest.mark.slow
def test_a_trial_that_fails_says_why(project: Path) -> None:
    with pytest.raises(InputError, match=r"trial tune-lora-1 with \{'rank': 13\} failed: .*finetune@lora"):
        tuned("lora: {rank: {choices: [13]}}")


def test_the_search_goes_on_after_a_trial_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(BLOCK)
    Path("metrics/finetune").mkdir(parents=True)
    Path("metrics/finetune/lora.json").write_text('{"validation_macro_f1": 0.5}')

    def trial(approach: str, number: int, values: dict[str, object]) -> tuple[str, float]:
        if number < 3:
            raise InputError(f"trial {number} failed: the loss is not finite")
        return f"tune-{approach}-{number}", 0.6

    monkeypatch.setattr(tune, "run_trial", trial)
    tuned("lora: {rank: {choices: [4]}}")
    printed = capsys.readouterr().out
    assert "trial 1 failed: the loss is not finite\ntrial 2 failed" in printed
    assert "tune: 2 of 3 trials failed, for the reasons above" in printed
    assert yaml.safe_load(Path("params.yaml").read_text())["finetune"]["lora"]["rank"] == 4
    with pytest.raises(InputError, match=r"all 2 trials failed; .*spaces\.yaml: trial 1 failed: the loss"):
        tuned("lora: {rank: {choices: [4]}}", trials=2)
    Path("metrics/finetune/lora.json").write_text('{"left_out": "no 4-bit arithmetic here"}')
    with pytest.raises(InputError, match=r"lora\.json: has no validation_macro_f1; .*no 4-bit arithmetic here"):
        tuned("lora: {rank: {choices: [4]}}")


@pytest.mark.parametrize(
    ("approach", "spaces", "message"),
    [
        ("lora", "lora: {ranks: {choices: [4]}}", r"`lora\.ranks` is no key of `finetune\.lora`"),
        ("lora", "full: {rank: {choices: [4]}}", r"section `lora` is missing"),
        ("lora", "lora: {rank: {low: 3.0, high: 1.0, log: false}}", "must be below high"),
        ("majority", "lora: {rank: {choices: [4]}}", r"`finetune\.majority` is a baseline"),
    ],
)
def test_a_space_that_makes_no_sense_is_an_error(approach: str, spaces: str, message: str) -> None:
    Path("params.yaml").write_text(BLOCK)
    with pytest.raises(InputError, match=message):
        tuned(spaces, approach=approach)


def test_the_declared_spaces_are_of_the_committed_params(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    spaces = yaml.safe_load(tune.SPACES.read_text())
    assert spaces
    for approach in spaces:
        assert tune.checked_space(approach, tune.SPACES)
