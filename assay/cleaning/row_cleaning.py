"""What is done to one batch of rows: values checked and filled in, texts cleaned, what cannot be used removed.

A batch is cleaned by itself, so batches can be worked on by several processes at once, each reading its rows from the
table and writing what comes out as parts of three tables. Threads would not do: a fifth to a half of the time goes into
Python functions, on the rows that need one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl
from joblib import Parallel, delayed

from assay.cleaning.column_checks import Batch, CheckParams, check_records, fill_missing
from assay.cleaning.rule_chain import ScopedRule, apply_rules
from assay.cleaning.rules import CleanParams, Constant, Policy, TextCleaning, chosen_rules
from assay.core.errors import InputError
from assay.core.progress import progress
from assay.core.removed_rows import is_missing, none_removed, removed_rows
from assay.core.row_batches import slices, write_part
from assay.text.language import is_foreign
from assay.text.token_lengths import longer_than

BATCH_ROWS = 100_000
"""Large enough that the cost of a pass does not count (Polars keeps 32 regular expressions a thread, and the rules have
more, so each pass compiles them anew: some 15 ms), small enough that memory does not either."""
SEQUENTIAL_BATCHES = 1
"""So many batches are done sooner than other processes have started."""
Step = Callable[[pl.DataFrame], Batch]


def prepare_rows(
    records: pl.DataFrame, checks: Mapping[str, CheckParams], values: Mapping[str, str], removals: Mapping[str, str]
) -> Batch:
    """Rows whose values are in order and not missing; see `check_records` and `fill_missing`."""
    checked = check_records(records, checks)
    filled = fill_missing(checked.kept, values, removals)
    return Batch(filled.records, filled.changed, pl.concat([checked.removed, filled.removed]))


def clean_rows(records: pl.DataFrame, rules: Sequence[ScopedRule]) -> Batch:
    """Rows with clean texts, by `apply_rules`; those that the rules never leave alone are removed as `unsettled`."""
    done = apply_rules(records, rules)
    is_unsettled = pl.Series(range(records.height), dtype=pl.UInt32).is_in(done.unsettled.implode())
    after = records.with_columns(text=done.texts)
    return Batch(after.filter(~is_unsettled), done.changed, removed_rows(after.filter(is_unsettled), "unsettled"))


def keep_usable(records: pl.DataFrame, params: TextCleaning) -> Batch:
    """Rows that are neither empty, nor too short or long, nor in another language; the first rule that fits counts."""
    length = pl.col("text").str.len_chars()
    rule = (
        pl.when(length == 0)
        .then(pl.lit("empty_text"))
        .when(length < params.min_characters)
        .then(pl.lit("min_characters"))
        .when(length > params.max_characters)
        .then(pl.lit("max_characters"))
        .when(longer_than(records["text"], Path(params.max_tokens.tokenizer), params.max_tokens.tokens))
        .then(pl.lit("max_tokens"))
    )
    if params.languages is not None:
        rule = rule.when(is_foreign(records["text"], **params.languages.model_dump())).then(pl.lit("language"))
    marked = records.with_columns(rule=rule)
    kept, gone = marked.filter(pl.col("rule").is_null()), marked.filter(pl.col("rule").is_not_null())
    return Batch(kept.drop("rule"), none_removed(), removed_rows(gone, pl.col("rule")))


def run_steps(records: pl.DataFrame, steps: Sequence[Step]) -> Batch:
    """What several steps do to a batch, each to the rows that the one before lets through."""
    done = Batch(records, none_removed(), none_removed())
    for step in steps:
        new = step(done.records)
        done = Batch(new.records, done.changed.vstack(new.changed), done.removed.vstack(new.removed))
    return done


def write_cleaned(batches: Sequence[pl.LazyFrame], steps: Sequence[Step], parts: Path) -> None:
    """Put batches of rows through the steps, and write what comes out as parts; see `joined_parts`.

    The batches are of scanned files, so that each process reads its rows itself; the parts are of the tables
    `cleaned`, `unlabelled` (rows without a label, where `missing.label` lets them wait), `changed` and `removed`.
    """
    processes = pl.thread_pool_size() if len(batches) > SEQUENTIAL_BATCHES else 1
    done = Parallel(n_jobs=processes, return_as="generator_unordered")(
        delayed(write_batch)(batch, number, steps, parts) for number, batch in enumerate(batches)
    )
    for _ in progress(done, "clean", len(batches), "batch"):
        pass


def write_batch(rows: pl.LazyFrame, number: int, steps: Sequence[Step], parts: Path) -> None:
    """`write_cleaned` of one batch; its parts are ordered by `number`."""
    batch = run_steps(rows.collect(), steps)
    waits = is_missing("label")
    write_part(batch.records.filter(~waits), parts / "cleaned", 0, number)
    write_part(batch.records.filter(waits), parts / "unlabelled", 0, number)
    write_part(batch.changed, parts / "changed", 0, number)
    write_part(batch.removed.with_columns(kept_id=pl.lit(None, pl.String)), parts / "removed", 0, number)


def check_columns(columns: Sequence[str], params: CleanParams, path: Path) -> None:
    """Raise `InputError` where a block of the params names a column that is not there."""
    for block, named in (("checks", params.checks), ("missing", params.missing)):
        if unknown := [column for column in named if column not in columns]:
            raise InputError(
                f"params.yaml: `clean.{block}.{unknown[0]}`: {path} has no such column; there are {list(columns)}"
            )


def missing_values(
    table: pl.LazyFrame, policies: Mapping[str, Policy | Constant], path: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """The policies as `values` and `removals` of `fill_missing`. Raises `InputError`: a column has no value at all."""
    values, removals = {}, {}
    for column, policy in policies.items():
        if isinstance(policy, Constant):
            values[column] = policy.constant
        elif policy == "unknown":
            values[column] = "unknown"
        elif policy == "mode":
            counts = table.filter(~is_missing(column)).group_by(column).len()
            mode = counts.sort(["len", column], descending=[True, False]).head(1).collect()
            if not mode.height:
                raise InputError(f"params.yaml: `clean.missing.{column}` = 'mode': no row of {path} has a value there")
            values[column] = mode[column][0]
        elif policy not in ("keep", "pool"):
            removals[column] = f"review_missing_{column}" if policy == "review" else f"missing_{column}"
    return values, removals


def clean_texts(path: Path, params: CleanParams, parts: Path) -> None:
    """Write the rows that can be used, clean, as parts of `cleaned`, and what was changed and removed beside them."""
    table = pl.scan_parquet(path)
    rules = chosen_rules(params, table.select("source").unique().collect().to_series().sort().to_list())
    check_columns(table.collect_schema().names(), params, path)
    values, removals = missing_values(table, params.missing, path)
    steps = [
        partial(prepare_rows, checks=params.checks, values=values, removals=removals),
        partial(clean_rows, rules=rules),
        partial(keep_usable, params=params),
    ]
    write_cleaned(slices(table, BATCH_ROWS), steps, parts)
