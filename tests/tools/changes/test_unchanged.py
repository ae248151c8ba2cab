"""Hashes of what a run made, and a lock brought up to date without a run."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assay.core.errors import InputError
from tools.changes import unchanged

PIPELINE = """
stages:
  ingest:
    cmd: cp assay/code.txt data.txt
    deps: [assay/code.txt]
    outs: [data.txt]
    metrics:
      - metrics/ingest.json: {cache: false}
"""
LOCK = {
    "schema": "2.0",
    "stages": {
        "ingest": {
            "cmd": "cp assay/code.txt data.txt",
            "deps": [{"path": "assay/code.txt", "hash": "md5", "md5": "0" * 32, "size": 1}],
            "outs": [
                {"path": "data.txt", "hash": "md5", "md5": "d" * 32, "size": 5},
                {"path": "metrics/ingest.json", "hash": "md5", "md5": "e" * 32, "size": 2},
            ],
        }
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline of one stage whose code changed since the lock, and whose data lie elsewhere."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    (tmp_path / "assay").mkdir()
    (tmp_path / "assay/code.txt").write_text("new code")
    return tmp_path


def test_outputs_but_no_metrics_are_hashed(project: Path) -> None:
    assert unchanged.output_hashes(project) == {"ingest": {"data.txt": "d" * 32}}


def test_a_model_is_its_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights"):
        unchanged.weights_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = unchanged.weights_hash(tmp_path)
    (tmp_path / "code.py").write_text("import elsewhere")
    assert unchanged.weights_hash(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"others")
    assert unchanged.weights_hash(tmp_path) != before


def test_the_lock_gets_the_hash_of_the_code_and_keeps_those_of_outputs(project: Path) -> None:
    unchanged.write_lock(["other"])
    assert yaml.safe_load((project / "dvc.lock").read_text()) == LOCK
    unchanged.write_lock(["ingest"])
    entry = yaml.safe_load((project / "dvc.lock").read_text())["stages"]["ingest"]
    assert entry["deps"][0]["md5"] == "a976c7609360a930599e1980bf35ed9e"  # of "new code"
    assert entry["outs"] == LOCK["stages"]["ingest"]["outs"]  # type: ignore[index]


def test_a_command_that_fails_is_shown_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"failed in .*\n.*no such thing"):
        unchanged.run([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)


def test_a_stage_whose_params_changed_has_to_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (project / "dvc.yaml").open("a") as file:
        file.write("    params: [seed]\n")
    (project / "params.yaml").write_text("seed: 2\n")
    lock = copy.deepcopy(LOCK)
    lock["stages"]["ingest"]["params"] = {"params.yaml": {"seed": 1}}  # type: ignore[index]
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    unchanged.write_lock(["ingest"])
    assert yaml.safe_load((project / "dvc.lock").read_text()) == lock
    assert "ingest: its params are not those of dvc.lock" in capsys.readouterr().out
