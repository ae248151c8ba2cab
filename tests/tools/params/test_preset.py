from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from tests.own_cases import read_cases
from tests.own_process import git, run_main
from tests.template_params import FILE
from tools.params import preset
from tools.params.check import find_problems
from tools.params.preset import replace_values, write_preset

REPOSITORY = Path(__file__).parents[3]
NAMES = ("default", "full", "gpu")
CHANGES = yaml.safe_load(Path(__file__).with_name("preset_changes.yaml").read_text(encoding="utf-8"))
PARAMS = Path(__file__).with_name("preset_before.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("dotted", "new", "before", "after"), CHANGES)
def test_one_value_changes_and_every_other_character_stays(
    dotted: str, new: str | None, before: str, after: str
) -> None:
    assert replace_values(PARAMS, {dotted: new}) == PARAMS.replace(before, after, 1)


def test_several_values_of_a_line_change_at_once() -> None:
    text = replace_values(PARAMS, {"block.flow.a": " 2", "block.flow.b": " []", "block.x": " 1", "block.y": " 2"})
    assert "  flow: {a: 2, b: []}   # both\n" in text
    assert yaml.safe_load(text)["block"].items() >= {"x": 1, "y": 2}.items()


def written(text: str, name: str) -> str:
    return write_preset(text, REPOSITORY / f"presets/{name}.yaml")[0]


@pytest.fixture(scope="module")
def default() -> str:
    return written(FILE.read_text(), "default")


@pytest.mark.figures
def test_the_committed_params_are_the_default(default: str) -> None:
    assert default == (REPOSITORY / "params.yaml").read_text()


def test_from_each_preset_to_each_and_back(default: str) -> None:
    texts = {name: written(default, name) for name in NAMES}
    for before in texts.values():
        assert {name: written(before, name) for name in NAMES} == texts


def test_presets_have_the_same_paths_and_none_of_the_data() -> None:
    files = [yaml.safe_load((REPOSITORY / f"presets/{name}.yaml").read_text()) for name in NAMES]
    paths = [[list(part) for part in file.values()] for file in files]
    assert paths[0] == paths[1] == paths[2]
    data = ("ingest", "correct", "clean", "annotation_qa", "split", "instruct_data", "augment", "embed", "max_rows")
    assert not [path for part in paths[0] for path in part if path.startswith(data)]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_and_the_pipeline_resolves_with_it(name: str, default: str) -> None:
    from dvc.repo import Repo

    Path("params.yaml").write_text(written(default, name))
    Path("dvc.yaml").write_text((REPOSITORY / "dvc.yaml").read_text())
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert find_problems(Path("params.yaml")) == []
    assert {pair[side] for pair in params["compare_generation"]["pairs"] for side in pair} == {
        *params["generation_models"]
    }

    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    with Repo() as repo:
        stages = {stage.addressing for stage in repo.index.stages}
    expected = {"finetune": params["approaches"], "evaluate": params["approaches"], "sft": params["sft_approaches"]}
    expected |= {"evaluate_generation": params["generation_models"], "fetch": params["fetch"]["assets"]}
    for stage, names in (expected | params["optional"]).items():
        assert {one for one in stages if one.startswith(f"{stage}@")} == {f"{stage}@{one}" for one in names}


def test_language_models_that_are_off_stay_off(default: str) -> None:
    params = yaml.safe_load(default)
    params |= {"sft_approaches": [], "generation_models": {}}
    off = ("instruct_data", "preferences", "reward", "dpo", "rloo", "ppo", "compare_generation")
    params["optional"] |= {stage: [] for stage in off}
    del params["sft"]
    text, changes = write_preset(yaml.safe_dump(params), REPOSITORY / "presets/gpu.yaml")
    assert "approaches: [majority, tfidf, knn, linear_probe, lora, qlora, full] → " in "\n".join(changes)
    assert not [change for change in changes if "sft" in change or "qwen" in change or "generation" in change]
    assert yaml.safe_load(text)["optional"]["dpo"] == []


@pytest.mark.parametrize(("change", "says"), read_cases(__file__)["what_does_not_go_with_the_params_is_named"])
def test_what_does_not_go_with_the_params_is_named(change: dict[str, Any], says: str, default: str) -> None:
    with pytest.raises(InputError, match=says):
        written(yaml.safe_dump(yaml.safe_load(default) | change), "full")


@pytest.mark.parametrize(("text", "says"), [("a: [", "not valid YAML"), ("classifiers: {}", "the parts classifiers, ")])
def test_a_preset_that_cannot_be_read_is_named(text: str, says: str, default: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.yaml: .*{says}"):
        write_preset(default, file)


def test_a_preset_is_written_into_committed_params_alone(
    default: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> str:
        run_main(preset, *arguments)
        return capsys.readouterr().out

    monkeypatch.setattr(preset, "PRESETS", REPOSITORY / "presets")
    Path("params.yaml").write_text(default)
    with pytest.raises(InputError, match="git cannot tell"):
        run("full")
    git("init", "-q")
    git("add", "params.yaml")
    with pytest.raises(InputError, match=r"uncommitted changes.*`git commit params\.yaml` or `git stash`"):
        run("full")
    git("commit", "-qm", "params")
    assert "has the values of" in run("default")
    out = run("full")
    assert "label_errors.action: review → drop\n" in out
    assert "values of params.yaml changed: look at `git diff params.yaml`, then `make repro`" in out
    for arguments, says in (((), r"say which preset"), (("ful",), "no preset 'ful'")):
        with pytest.raises(InputError, match=says + r"(.|\n)*default: (.|\n)*full: (.|\n)*gpu: "):
            run(*arguments)
