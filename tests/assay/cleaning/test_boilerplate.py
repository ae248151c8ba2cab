from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cleaning.boilerplate import BOILERPLATE_SCHEMA, frequent_lines, remove_boilerplate


def batches(rows: list[tuple[str, str]], size: int) -> Iterator[pl.DataFrame]:
    table = pl.DataFrame(rows, schema={"source": pl.String, "text": pl.String}, orient="row")
    for start in range(0, max(1, table.height), size):
        yield table[start : start + size]


def without(text: str, *lines: str) -> str:
    after = pl.DataFrame({"text": [text]}).select(remove_boilerplate(pl.col("text"), lines=lines)).item()
    assert isinstance(after, str)
    return after


def test_a_line_of_many_texts_of_one_source_is_boilerplate() -> None:
    rows = [("mail", f"question {n}\n Unsubscribe here\n") for n in range(8)]
    rows += [("mail", "a single line"), ("mail", "a single line")]
    rows += [("faq", f"answer {n}\nUnsubscribe here") for n in range(2)] + [
        ("faq", f"answer {n}\nx{n}") for n in range(18)
    ]
    found = frequent_lines(lambda: batches(rows, 4), max_document_share=0.2, min_documents=3)
    assert found.schema == BOILERPLATE_SCHEMA
    assert found.rows() == [("mail", "Unsubscribe here", 8, 0.8)]


def test_a_line_counts_once_a_text_and_rare_ones_not_at_all() -> None:
    rows = [("s", "again\nagain\nagain"), ("s", "x\ny"), ("s", "z\nw")]
    assert frequent_lines(lambda: batches(rows, 2), max_document_share=0.5, min_documents=1).height == 0
    few = [("s", "same\na"), ("s", "same\nb")]
    assert frequent_lines(lambda: batches(few, 2), max_document_share=0.5, min_documents=3).height == 0
    assert frequent_lines(lambda: batches([], 2), max_document_share=0.5, min_documents=3).height == 0


ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from("pqr "), max_size=4).map("\n".join)), max_size=30
)


@given(rows=ROWS, size=st.integers(1, 12), share=st.sampled_from([0.1, 0.25, 0.5]))
def test_batches_do_not_matter_and_nothing_is_missed(rows: list[tuple[str, str]], size: int, share: float) -> None:
    expected = set()
    for source in "ab":
        texts = [text for name, text in rows if name == source]
        for line in "pqr":
            count = sum("\n" in text.strip() and line in text.split("\n") for text in texts)
            if count >= 2 and Fraction(count, len(texts)) > Fraction(share):
                expected.add((source, line, count))
    found = frequent_lines(lambda: batches(rows, size), max_document_share=share, min_documents=2)
    assert set(found.select("source", "line", "documents").rows()) == expected


def test_a_line_that_comes_late_or_in_few_batches_is_found() -> None:
    late = [("s", f"question {n}\nx{n}") for n in range(60)] + [("s", f"answer {n}\nbye") for n in range(60, 80)]
    uneven = [("s", f"question {n}\n" + ("bye" if n % 40 < 5 else f"x{n}")) for n in range(160)]
    for rows, count in ((late, 20), (uneven, 20)):
        found = frequent_lines(partial(batches, rows, 10), max_document_share=0.1, min_documents=2)
        assert found.rows() == [("s", "bye", count, count / len(rows))]


def test_sources_that_are_small_in_every_batch_are_told_apart() -> None:
    rows = [(f"s{n % 50}", f"question {n}\nbye {n % 50}") for n in range(1000)]
    found = frequent_lines(lambda: batches(rows, 100), max_document_share=0.3, min_documents=5)
    assert found.rows() == sorted((f"s{source}", f"bye {source}", 20, 1.0) for source in range(50))


def test_a_line_end_at_the_end_makes_no_second_line() -> None:
    rows = [("s", "Thanks!\n"), ("s", "\nThanks!"), ("s", "Thanks!\r\n ")]
    assert frequent_lines(lambda: batches(rows, 2), max_document_share=0.1, min_documents=1).height == 0
    assert without("Thanks!\n", "Thanks!") == "Thanks!\n"


@pytest.mark.timeout(100)  # seconds; a look at all lines for each text would be minutes
def test_many_lines_and_many_texts_take_little_time() -> None:
    texts = pl.DataFrame({"text": [f"my card {n} is lost\nfooter {n % 5000}" for n in range(25_000)]})
    after = texts.select(remove_boilerplate(pl.col("text"), lines=[f"footer {n}" for n in range(5000)]))["text"]
    assert after.to_list() == [f"my card {n} is lost" for n in range(25_000)]


@pytest.mark.timeout(100)  # seconds; quadratic would be minutes
def test_a_megabyte_of_lines_in_one_cell_ends_soon() -> None:
    assert without("bye\n" * 250_000 + "x", "bye") == "x"
    assert without("\n" * 1_000_000 + "x", "bye") == "\n" * 1_000_000 + "x"


@given(st.lists(st.sampled_from(["a", "bye", " bye ", "\n", "\r\n", "\n\n"]), max_size=12).map("".join))
def test_taken_out_once_nothing_is_left_to_take_out(text: str) -> None:
    after = without(text, "bye")
    assert without(after, "bye") == after


def test_only_whole_lines_of_texts_of_several_lines_go() -> None:
    assert without("hello\n  Unsubscribe here \nbye", "Unsubscribe here") == "hello\nbye"
    assert without("Unsubscribe here", "Unsubscribe here") == "Unsubscribe here"
    assert without("I said Unsubscribe here\nok", "Unsubscribe here") == "I said Unsubscribe here\nok"
    assert without("Unsubscribe here\nUnsubscribe here", "Unsubscribe here") == ""
    assert without("a\nb\nc", "a", "c") == "b"
    assert without("a\nb") == "a\nb"


def test_null_stays_null() -> None:
    texts = pl.DataFrame({"text": [None, "a\nb"]})
    assert texts.select(remove_boilerplate(pl.col("text"), lines=["a"]))["text"].to_list() == [None, "b"]
