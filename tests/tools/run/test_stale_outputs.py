"""What a stage made that is switched off is deleted and named; everything else stays."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import InputError
from tests.own_cases import read_cases
from tests.template_params import read_template_params
from tools.run import stale_outputs

CASES = read_cases(__file__)


def test_outputs_of_a_stage_that_is_off_are_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    files = ("metrics/evaluate/lora.json", "data/predictions/lora/a.csv", "metrics/evaluate/full.json", "moved.json")
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("{}")
    outs = {"evaluate@lora": files[:1], "evaluate@full": files[2:3], "old_name": files[3:]}
    entries = {name: {"outs": [{"path": path} for path in paths]} for name, paths in outs.items()}
    # With `cache.type: symlink`, what lies in the tree is a link into DVC's cache, where it may lead to nothing.
    Path("cache").mkdir()
    Path("data/linked").symlink_to(Path("cache").absolute())
    Path("data/broken").symlink_to("nothing")
    paths = ("data/predictions/lora", "data/gone", "data/linked", "data/broken")
    entries["evaluate@lora"]["outs"] += [{"path": path} for path in paths]
    stale = stale_outputs.delete_stale(entries, {"evaluate@full", "new_name"}, {files[2], files[3]})
    assert stale == ["evaluate@lora", "old_name"]
    assert list(entries) == ["evaluate@full"]
    assert sorted(map(str, Path().rglob("*.*"))) == [files[2], files[3]]
    assert (Path("cache").is_dir(), *Path("data").glob("*")) == (True, Path("data/predictions"))
    assert capsys.readouterr().out.splitlines() == [
        "evaluate@lora is off: deleted metrics/evaluate/lora.json",
        *(f"evaluate@lora is off: deleted {path}" for path in paths if path != "data/gone"),
    ]


@pytest.mark.parametrize(("change", "message"), CASES["lists_that_need_one_another_are_named"])
def test_lists_that_need_one_another_are_named(change: dict[str, Any], message: str) -> None:
    params = read_template_params()
    optional = params["optional"] | change.pop("optional", {})
    with pytest.raises(InputError, match=message):
        stale_outputs.require_consistent_lists(params | change | {"optional": optional})
