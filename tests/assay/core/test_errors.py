import errno
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from assay.core.errors import InputError, hide_secrets, run_stage


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


@pytest.mark.parametrize("name", ["ASSAY_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "SMTP_PASSWORD"])
def test_no_message_shows_what_the_environment_keeps_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "planted-0123456789\n")
    for error in (InputError("Illegal header: 'planted-0123456789'"), KeyError("planted-0123456789\n")):
        with pytest.raises(SystemExit) as caught:
            run_stage(lambda error=error: raising(error))  # type: ignore[misc]
        assert "***" in str(caught.value.code)
        assert "planted" not in str(caught.value.code)


def test_other_texts_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_TOKEN", "false")
    others = ["https://a.example/b?page=2&sort_key=c#d", "ssh://git@a.example/b", "me@b.example, https://a.example/x"]
    for text in (*others, "file:///home/me:you@x", "s3://bucket/a:b@c", "TOKENIZERS_PARALLELISM=false"):
        assert hide_secrets(text) == text
