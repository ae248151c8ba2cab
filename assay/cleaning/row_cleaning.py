"""What is done to one batch of rows: values checked and filled in, texts cleaned, what cannot be used set aside.

A batch is cleaned by itself, so batches can be worked on by several processes at once, each reading its rows from the
table and writing what comes out as parts of three tables. Threads would not do: a fifth to a half of the time goes into
Python functions, on the rows that need one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from joblib import Parallel, delayed

from assay.cleaning.column_checks import ColumnCheck, check_records, fill_missing, record_schema
from assay.cleaning.rule_chain import ScopedRule, apply_rules
from assay.core.progress import progress
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.core.row_batches import write_part
from assay.text.language import is_foreign
from assay.text.token_lengths import longer_than

BATCH_ROWS = 100_000
"""Large enough that the cost of a pass does not count (Polars keeps 32 regular expressions a thread, and the rules have
more, so each pass compiles them anew: some 15 ms), small enough that memory does not either."""

SEQUENTIAL_BATCHES = 1
"""So many batches are done sooner than other processes have started."""


@dataclass(frozen=True)
class Batch:
    """What has become of a batch of rows.

    Attributes:
        records: the rows that go on.
        changed: `REMOVED_SCHEMA`.
        removed: `REMOVED_SCHEMA`.
    """

    records: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame


Step = Callable[[pl.DataFrame], Batch]
"""What is done to a batch of rows."""


def prepared(
    records: pl.DataFrame, checks: Mapping[str, ColumnCheck], values: Mapping[str, str], removals: Mapping[str, str]
) -> Batch:
    """Rows whose values are in order and not missing; see `check_records` and `fill_missing`."""
    checked = check_records(records, record_schema(checks))
    filled = fill_missing(checked.records, values, removals)
    return Batch(filled.records, filled.changed, pl.concat([checked.removed, filled.removed]))


def cleaned(records: pl.DataFrame, rules: Sequence[ScopedRule], settled: int = 0) -> Batch:
    """Rows with clean texts, by `apply_rules`; those that the rules never leave alone are removed as `unsettled`."""
    done = apply_rules(records, rules, settled)
    is_unsettled = pl.Series(range(records.height), dtype=pl.UInt32).is_in(done.unsettled.implode())
    after = records.with_columns(text=done.texts)
    return Batch(
        records=after.filter(~is_unsettled),
        changed=done.changed,
        removed=as_removed(after.filter(is_unsettled).with_columns(rule=pl.lit("unsettled"))),
    )


def usable(
    records: pl.DataFrame,
    min_characters: int,
    max_characters: int,
    tokenizer: Path,
    max_tokens: int,
    languages: Mapping[str, Any] | None,
) -> Batch:
    """Rows that are neither empty, nor too short or long, nor in another language; the first rule that fits counts.

    Args:
        records: `id` and `text`.
        min_characters: a shorter text is removed.
        max_characters: a longer text is removed.
        tokenizer: the file of a tokenizer.
        max_tokens: a text of more of its tokens is removed.
        languages: the keyword arguments of `is_foreign`; None: every language stays.
    """
    length = pl.col("text").str.len_chars()
    rule = (
        pl.when(length == 0)
        .then(pl.lit("empty_text"))
        .when(length < min_characters)
        .then(pl.lit("min_characters"))
        .when(length > max_characters)
        .then(pl.lit("max_characters"))
        .when(longer_than(records["text"], tokenizer, max_tokens))
        .then(pl.lit("max_tokens"))
    )
    if languages is not None:
        rule = rule.when(is_foreign(records["text"], **languages)).then(pl.lit("language"))
    marked = records.with_columns(rule=rule)
    return Batch(
        records=marked.filter(pl.col("rule").is_null()).drop("rule"),
        changed=pl.DataFrame(schema=REMOVED_SCHEMA),
        removed=as_removed(marked.filter(pl.col("rule").is_not_null())),
    )


def as_removed(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `rule` in the form of `REMOVED_SCHEMA`."""
    return rows.select("id", "rule", before="text", after=pl.lit(None, pl.String))


def in_turn(records: pl.DataFrame, steps: Sequence[Step]) -> Batch:
    """What several steps do to a batch, each to the rows that the one before lets through."""
    done = Batch(records, pl.DataFrame(schema=REMOVED_SCHEMA), pl.DataFrame(schema=REMOVED_SCHEMA))
    for step in steps:
        new = step(done.records)
        done = Batch(new.records, done.changed.vstack(new.changed), done.removed.vstack(new.removed))
    return done


def slices(table: pl.LazyFrame) -> list[pl.LazyFrame]:
    """A scanned file in batches of `BATCH_ROWS` rows, not read yet; one empty batch where it has none."""
    rows = int(table.select(pl.len()).collect().item())
    return [table.slice(start, BATCH_ROWS) for start in range(0, max(1, rows), BATCH_ROWS)]


def write_cleaned(batches: Sequence[pl.LazyFrame], steps: Sequence[Step], parts: Path, run: int) -> None:
    """Put batches of rows through the steps, and write what comes out as parts; see `joined_parts`.

    Args:
        batches: of scanned files, so that each process reads its rows itself.
        steps: what is done to each batch.
        parts: gets parts of the tables `records-<run>`, `changed` and `removed`.
        run: number of this run over the rows.
    """
    processes = pl.thread_pool_size() if len(batches) > SEQUENTIAL_BATCHES else 1
    done = Parallel(n_jobs=processes, return_as="generator_unordered")(
        delayed(write_batch)(batch, number, steps, parts, run) for number, batch in enumerate(batches)
    )
    for _ in progress(done, f"clean, run {run}", len(batches), "batch"):
        pass


def write_batch(rows: pl.LazyFrame, number: int, steps: Sequence[Step], parts: Path, run: int) -> None:
    """`write_cleaned` of one batch; its parts are ordered by `number`."""
    batch = in_turn(rows.collect(), steps)
    write_part(batch.records, parts / f"records-{run}", 0, number)
    write_part(batch.changed, parts / "changed", run, number)
    write_part(batch.removed.with_columns(kept_id=pl.lit(None, pl.String)), parts / "removed", run, number)
