import errno
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from assay.core.errors import InputError, run_stage


def raising(error: Exception) -> None:
    raise error


def test_bad_input_ends_with_one_line() -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage(lambda: raising(InputError("a.csv: no column `text`")))
    assert caught.value.code == "error: a.csv: no column `text`"


@pytest.mark.parametrize("read", [lambda: Path("data/absent.csv").read_text(), lambda: pl.read_csv("data/absent.csv")])
def test_a_missing_file_is_named(read: Callable[[], object]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage(lambda: print(read()))
    assert str(caught.value.code).startswith("error: data/absent.csv: no such file")


def test_a_full_disk_is_named() -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage(lambda: raising(OSError(errno.ENOSPC, "No space left on device", "data/x.parquet")))
    assert str(caught.value.code) == (
        "error: data/x.parquet: No space left on device; free space or mend access, then run again"
    )


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run_stage(lambda: raising(KeyError("defect")))
