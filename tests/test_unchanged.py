"""Hashes of what a run made."""

import sys
from pathlib import Path

import pytest
import yaml

from assay.core.errors import InputError
from tests import unchanged

OUTS = [{"path": "data.txt", "md5": "d" * 32}, {"path": "metrics/ingest.json", "md5": "e" * 32}]
LOCK = {"schema": "2.0", "stages": {"ingest": {"cmd": "go", "outs": OUTS}}}


def test_outputs_but_no_metrics_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    assert unchanged.output_hashes(tmp_path) == {"ingest": {"data.txt": "d" * 32}}


def test_a_command_that_fails_is_shown_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"failed in .*\n.*no such thing"):
        unchanged.run([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
