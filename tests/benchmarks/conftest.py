"""Rows that the benchmarks share: made once a session, of the default data."""

from pathlib import Path

import polars as pl
import pytest

from tests.benchmarks.million_rows import Truth, write_million_rows

SEED = 7


@pytest.fixture(scope="session")
def base_texts(repository: Path) -> pl.Series:
    """The texts of the default data."""
    path = repository / "data" / "ingested" / "records.parquet"
    if not path.exists():
        pytest.skip(f"the rows are made from those in {path}, which is not there: run `make repro` first")
    return pl.read_parquet(path, columns=["text"])["text"]


@pytest.fixture(scope="session")
def million_rows(tmp_path_factory: pytest.TempPathFactory, base_texts: pl.Series) -> tuple[Path, Truth]:
    """A Parquet file of a million rows in the ingested form, and what is planted in them."""
    path = tmp_path_factory.mktemp("million") / "records.parquet"
    return path, write_million_rows(path, 1_000_000, SEED, base_texts)


@pytest.fixture(scope="session")
def hundred_thousand_rows(tmp_path_factory: pytest.TempPathFactory, base_texts: pl.Series) -> tuple[Path, Truth]:
    """The same as `million_rows`, of its first 100,000."""
    path = tmp_path_factory.mktemp("hundred_thousand") / "records.parquet"
    return path, write_million_rows(path, 100_000, SEED, base_texts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the ratios and speeds that benchmarks note: pytest-benchmark itself shows times alone."""
    session = getattr(config, "_benchmarksession", None)
    for one in session.benchmarks if session else []:
        if one.extra_info:
            terminalreporter.section(one.name)
            for name, value in one.extra_info.items():
                terminalreporter.line(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
