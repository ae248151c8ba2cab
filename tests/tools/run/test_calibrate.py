"""What is measured, what is written, and when nothing is. No time is asserted."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from tests.own_params import COMPUTE
from tests.own_process import commit_all, run_main
from tests.stages.test_finetune import BLOCKS
from tools.run import calibrate

PARAMS = "compute:  # why\n  device: cpu\n  precision: float32  # of models\n  threads: 2\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with committed params, and measurements that need no model."""
    Path("params.yaml").write_text(PARAMS + "  processes: 1\n  checkpoint_seconds: 1.0\n  backend: processes\n")
    commit_all()
    monkeypatch.setattr(calibrate, "cores", lambda: 2)
    return tmp_path


def rates(monkeypatch: pytest.MonkeyPatch, of_setting: dict[tuple[int, str, int], float]) -> None:
    def measure(threads: int, precision: str, processes: int) -> dict[str, Any]:
        rate = of_setting.get((threads, precision, processes), 10.0)
        row = {"precision": precision, "threads": threads, "processes": processes, "rows_per_second": rate}
        return row | {"rows_per_cpu_second": rate / processes}

    monkeypatch.setattr(calibrate, "measure", measure)


def test_the_fastest_side_by_side_is_proposed_and_comments_stay(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates(monkeypatch, {(2, "float32", 1): 66, (1, "bfloat16", 1): 80, (1, "bfloat16", 2): 120, (1, "float32", 2): 90})
    run_main(calibrate)
    expected = PARAMS.replace("float32", "bfloat16").replace("threads: 2", "threads: 1")
    assert Path("params.yaml").read_text().startswith(expected)
    assert "bfloat16 with 1 thread(s), 1.82 times as fast" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"params\.yaml: has uncommitted changes, among which others could"):
        run_main(calibrate)


def test_a_gain_below_1_3_changes_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates(monkeypatch, {(2, "float32", 1): 60, (1, "float32", 2): 77})
    before = Path("params.yaml").read_bytes()
    run_main(calibrate)
    assert Path("params.yaml").read_bytes() == before
    assert "stays as it is: float32 with 1 thread(s) is the fastest, 1.28 times as fast" in capsys.readouterr().out


def test_settings_of_bigger_machines() -> None:
    assert [one for one in calibrate.settings("cpu", 1, 6) if one[1] == "float32"] == [
        *((1, "float32", 1), (1, "float32", 6)),
        *((2, "float32", 1), (2, "float32", 3)),
        (4, "float32", 1),
    ]
    assert max(processes for _, _, processes in calibrate.settings("cpu", 3, 96)) == calibrate.MAX_SIDE_BY_SIDE
    assert calibrate.settings("cuda", 4, 96) == [(4, "float32", 1), (4, "bfloat16", 1)]


def test_two_processes_train_really(checkout: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = BLOCKS["full"] | {"model": str(tiny_encoder), "batch_size": 2}
    Path("params.yaml").write_text(yaml.safe_dump({"compute": COMPUTE, "finetune": {"full": full}}))
    monkeypatch.setenv("PYTHONPATH", str(Path(calibrate.__file__).parents[2]))
    row = calibrate.measure(1, "float32", 2)
    assert (row["threads"], row["processes"]) == (1, 2)
    assert row["rows_per_second"] > 0
    assert row["rows_per_cpu_second"] > 0
    Path("params.yaml").write_text("seed: 1")
    with pytest.raises(InputError, match=r"float32 with 1 thread.*section `compute` is missing"):
        calibrate.measure(1, "float32", 1)
