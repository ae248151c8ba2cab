import errno
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
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


# What the libraries raise on a full disk, with too many open files and out of memory; Rust's have the number in a text.
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.ENOSPC, "", "data/x.parquet"), r"data/x\.parquet: No space left on device; free space there"),
        (OSError(errno.EDQUOT, ""), r"/.*: Disk quota exceeded; free space there"),
        (pl.exceptions.ComputeError("parquet: No space left (os error 28)"), r"/.*: No space left on device; free sp"),
        (OSError("Too many open files (os error 24): a.pq"), r"Too many open files; .*`ulimit -n 4096`"),
        (OSError(errno.EACCES, "", "a.csv"), r"a\.csv: Permission denied; mend access"),
        (MemoryError("Unable to allocate 8 GiB"), r"out of memory \(Unable to allocate 8 GiB\); close .*`max_rows`"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (BrokenProcessPool("A worker was terminated"), "out of memory"),
    ],
)
def test_what_the_machine_lacks_is_one_line_with_what_to_free(error: Exception, shown: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage(lambda: raising(error))
    assert re.match(rf"error: .*{shown}.*, then run again$", str(caught.value.code))


ROOT = Path(__file__).parents[3]
LACKS = {
    "a disk": ("RLIMIT_FSIZE", 4096, "pl.DataFrame({{'n': range(100_000)}}).write_csv('{0}/big.csv')"),
    "Parquet": ("RLIMIT_FSIZE", 4096, "write_parquet(pl.DataFrame({{'n': range(100_000)}}), Path('{0}/big.parquet'))"),
    "handles": ("RLIMIT_NOFILE", 3, "pl.read_parquet('{0}/small.parquet')"),
    "memory": ("RLIMIT_AS", 4 << 30, "bytearray(8 << 30)"),
}


@pytest.mark.parametrize("lack", LACKS)
def test_a_process_that_lacks_it_ends_with_one_line(lack: str, tmp_path: Path) -> None:
    limit, value, work = LACKS[lack]
    pl.DataFrame({"n": [1]}).write_parquet(tmp_path / "small.parquet")
    script = f"""
import resource
from pathlib import Path
import polars as pl
from assay.core.errors import run_stage
from assay.core.outputs import write_parquet
pl.DataFrame({{"n": [1]}}).lazy().collect()
resource.setrlimit(resource.{limit}, ({value}, {value}))
run_stage(lambda: {work.format(tmp_path)})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert re.match(r"error: .*(File too large|Too many open files|out of memory).*, then run again$", done.stderr)


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
