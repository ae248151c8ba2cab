import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.fine_tuning.sft_params import Approach
from assay.reward.training import RewardParams
from stages.dpo import DpoParams
from stages.ppo import PpoParams
from stages.rloo import RlooParams
from tools.params import gpu_params
from tools.params.gpu_params import with_budgets

REPOSITORY = Path(__file__).parents[3]
PARAMS = "a:\n  b: 1   # why\n  c: null\n  d: {e: [1]}\n"


def test_values_change_and_comments_stay() -> None:
    text, changes = with_budgets(PARAMS, {"a": {"b": 2, "c": None, "d": {"e": [3, 4]}}}, Path("f"))
    assert yaml.safe_load(text) == {"a": {"b": 2, "c": None, "d": {"e": [3, 4]}}}
    assert "# why" in text
    assert changes == ["a.b: 1 → 2", "a.d.e: [1] → [3, 4]"]


def test_small_numbers_stay_numbers_in_yaml_1_1() -> None:
    text, _ = with_budgets(PARAMS, {"a": {"b": 0.00005}}, Path("f"))
    assert "b: 5.0e-05" in text
    assert yaml.safe_load(text)["a"]["b"] == 0.00005


@pytest.mark.parametrize(
    ("budgets", "says"),
    [
        ({"a": {"x": 1}}, "f: `a.x` is no key of params.yaml"),
        ({"x": {"b": 1}}, "f: `x` is no key of params.yaml"),
        ({"a": {"b": {"c": 1}}}, "f: `a.b.c` is no key of params.yaml"),
        ({"a": {"d": 1}}, "f: `a.d` is a mapping in params.yaml"),
    ],
)
def test_what_does_not_fit_is_named(budgets: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        with_budgets(PARAMS, budgets, Path("f"))


def test_the_projects_budgets_are_valid_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    file = str(REPOSITORY / "tools/params/gpu_params.yaml")
    for expected in ("sft.defaults.max_steps: ", "params.yaml has these values already"):
        monkeypatch.setattr(sys, "argv", ["gpu_params", file])
        gpu_params.main()
        assert expected in capsys.readouterr().out
    params = yaml.safe_load(Path("params.yaml").read_text())
    for approach in params["sft_approaches"]:
        load_params(f"sft.{approach}", Approach)  # type: ignore[arg-type]
    for section, model in (("reward", RewardParams), ("dpo", DpoParams), ("rloo", RlooParams), ("ppo", PpoParams)):
        model.model_validate(params[section])


def test_a_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_params", "absent.yaml"])
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        gpu_params.main()
