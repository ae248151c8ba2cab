"""The id of a metrics file changes with the data and the params that it is of, and with nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.results import (
    GENERATIVE,
    is_on,
    metrics_files,
    read_own,
    read_pipeline,
    result_line,
    run_id,
    write_metrics,
)
from tests.own_cases import read_cases

CASES = read_cases(__file__)

PARAMS: dict[str, Any] = CASES["params"]
LORA, CHATS = "metrics/finetune/lora.json", "metrics/optional/instruct_data.json"


def id_of(file: str, **changed: Any) -> str | None:
    """The id with some values, by dotted path, put into the params."""
    params = copy.deepcopy(PARAMS)
    for path, value in changed.items():
        *parents, last = path.split("__")
        node = params
        for key in parents:
            node = node[key]
        node[last] = value
    return run_id(file, read_pipeline(), params)


@pytest.mark.parametrize(("file", "changed", "differs"), CASES["what_changes_an_id"])
def test_what_changes_an_id(file: str, changed: dict[str, Any], differs: bool) -> None:
    before = id_of(file)
    assert before is not None
    assert len(before) == 12
    assert (id_of(file, **changed) != before) is differs


def test_chats_that_hold_label_rows_are_of_those_too() -> None:
    task = {"instruct_data__label_task": {"prompt": "?"}}
    assert id_of(CHATS, **task) != id_of(CHATS, **task, ingest__sources=[{"name": "letters"}])


@pytest.mark.parametrize(
    ("file", "expected"),
    [(LORA, True), (CHATS, True), ("metrics/clean.json", True)]
    + [(f"metrics/{name}.json", False) for name in ("finetune/qlora", "optional/dpo", "no_such_stage")],
)
def test_what_is_switched_off_is_no_result(file: str, expected: bool) -> None:
    assert is_on(file, read_pipeline(), PARAMS) is expected


def test_the_generative_stages_are_those_after_instruct_data() -> None:
    """By the graph of `dvc.yaml`; the comparison of everything is of both tracks."""
    after, made = {"instruct_data"}, {"data/instruct"}
    stages = read_pipeline()["stages"]
    for name, entry in stages.items():
        body = entry.get("do", entry)
        # Which models are evaluated is for params to say.
        if name == "evaluate_generation" or any(dep.startswith(tuple(made)) for dep in body["deps"]):
            after.add(name)
            made |= {out.partition("$")[0] for out in body.get("outs", [])}
    assert after - {"report"} == set(GENERATIVE)


def test_metrics_are_ones_own_until_data_or_params_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("params.yaml")
    file.write_text(yaml.safe_dump(PARAMS))
    write_metrics(LORA, {"steps": 1200}, "steps")
    assert capsys.readouterr().out == "finetune@lora: steps 1,200\n"
    assert next(iter(json.loads(Path(LORA).read_text()))) == "run_id"
    assert read_own(LORA) == {"steps": 1200}
    assert metrics_files()["finetune@lora"] == Path(LORA)
    assert "dpo" not in metrics_files()
    file.write_text(yaml.safe_dump(PARAMS | {"seed": 2}))
    assert read_own(LORA) is None
    Path(LORA).write_text('{"steps": 1200}')
    assert read_own(LORA) is None
    assert read_own("metrics/finetune/full.json") is None


def test_a_result_line_has_rows_scores_and_intervals() -> None:
    removed = {"rows_in": 7900, "rows_out": 7840, "removed": {"no_label": 0, "duplicate": 60}}
    scores = {"accuracy": 0.81, "accuracy_ci95_low": 0.8, "accuracy_ci95_high": 0.82, "by": {"a": {"f1": 0.5}, "b": {}}}
    assert result_line(removed | scores, ["accuracy", "by.*.f1", "missing"]) == (
        "7,900 rows in, 7,840 out; removed: 60 duplicate; accuracy 0.810 [0.800, 0.820]; by a f1 0.500"
    )
    assert result_line({}, []) == "done"
