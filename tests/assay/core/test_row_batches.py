import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from assay.core import row_batches as batches
from assay.core.row_batches import joined_parts, mapped_in_order, row_batches, slices, write_part


@pytest.mark.parametrize(("rows", "expected"), [(0, [0]), (1, [1]), (10, [10]), (11, [10, 1]), (30, [10, 10, 10])])
def test_batches_hold_all_rows_in_order(monkeypatch: pytest.MonkeyPatch, rows: int, expected: list[int]) -> None:
    monkeypatch.setattr(batches, "BATCH_ROWS", 10)
    table = pl.DataFrame({"n": range(rows)}, schema={"n": pl.Int64}).lazy()
    found = list(row_batches(table))
    assert [batch.height for batch in found] == expected
    assert len(slices(table, 10)) == len(expected)
    assert pl.concat(found)["n"].to_list() == list(range(rows))


def test_batches_of_long_texts_have_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_BYTES", 100)
    table = pl.DataFrame({"n": range(6), "text": ["x" * 40, "y" * 40, None, "z" * 500, "", "é" * 30]}).lazy()
    found = [batch.collect()["n"].to_list() for batch in slices(table, 3)]
    assert found == [[0, 1, 2], [3], [4, 5]]


def test_parts_come_back_in_order(tmp_path: Path) -> None:
    for run, number in ((2, 0), (1, 11), (1, 2)):
        write_part(pl.DataFrame({"run": [run], "number": [number]}), tmp_path / "parts", run, number)
    assert joined_parts(tmp_path / "parts").collect().rows() == [(1, 2), (1, 11), (2, 0)]


def test_results_come_in_the_order_of_the_items_whichever_ends_first() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * 10

    assert list(mapped_in_order(slow_first, range(5), workers=3)) == [0, 10, 20, 30, 40]


def test_no_more_items_are_taken_than_are_worked_on() -> None:
    taken, lock = [], threading.Lock()

    def items() -> Iterator[int]:
        for number in range(20):
            with lock:
                taken.append(number)
            yield number

    next(mapped_in_order(lambda number: number, items(), workers=2))
    assert len(taken) <= 3


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(mapped_in_order(lambda number: 1 // number, [1, 0, 2], workers=2))
