"""What people decided about rows, applied to them: labels corrected or confirmed, rows removed."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import Field

from assay.core.forms import find_other_forms
from assay.core.params import Params
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.human_review.append_only_csv import refuse
from assay.human_review.corrections import LABEL_FIELDS, Correction, LineError, Outcome, check_labels, settle

DECIDED_SCHEMA = pl.Schema(
    [*REMOVED_SCHEMA.items(), ("reason", pl.String), ("reviewer", pl.String), ("date", pl.String), ("line", pl.Int64)]
)
"""Schema of `changed.parquet` and `removed.parquet`; `line` is the line of the corrections."""
REMOVAL = "correction"
"""The rule by which a row is removed."""


class CorrectParams(Params):
    """The `correct` section of `params.yaml`."""

    path: str = Field(min_length=1)
    new_labels: list[str]


@dataclass(frozen=True)
class NotApplied:
    """A line about a row that `clean` removed, and the rule that removed it."""

    correction: Correction
    rule: str
    kept_id: str | None


@dataclass(frozen=True)
class Settled:
    """What the file comes to."""

    outcomes: dict[tuple[str, str], Outcome]
    not_applied: list[NotApplied]


@dataclass(frozen=True)
class Corrected:
    """The rows that stay, with `reviewed`, and the decisions in the form of the files."""

    records: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame


def known_labels(records: pl.DataFrame, new_labels: list[str]) -> set[str]:
    """The labels that some row has, given or as its reference, and those that are allowed on top."""
    return {label for field in LABEL_FIELDS for label in records[field].drop_nulls().unique()} | set(new_labels)


def settle_all(
    corrections: list[Correction], records: pl.DataFrame, removed: pl.DataFrame, new_labels: list[str], path: Path
) -> Settled:
    """What the lines come to for the `records` that `clean` kept, and those it `removed` (`id`, `rule`, `kept_id`).

    Raises `InputError`: lines that do not fit the rows or each other.
    """
    ids = sorted({one.id for one in corrections})
    given = {
        row["id"]: {"row": "keep"} | {field: row[field] or "" for field in LABEL_FIELDS}
        for row in records.filter(pl.col("id").is_in(ids)).select("id", *LABEL_FIELDS).to_dicts()
    }
    gone = {row["id"]: row for row in removed.filter(pl.col("id").is_in(ids)).to_dicts()}
    decisions: dict[tuple[str, str], list[Correction]] = {}
    for one in corrections:
        decisions.setdefault((one.id, one.field), []).append(one)
    outcomes, not_applied = {}, []
    errors = check_labels(corrections, known_labels(records, new_labels))
    others = find_other_forms(set(ids) - given.keys() - gone.keys(), [*records["id"], *removed["id"]])
    refused = {line for line, _ in errors}
    for (row_id, field), lines in decisions.items():
        if row_id in given:
            if any(one.line in refused for one in lines):
                continue
            try:
                outcomes[row_id, field] = settle(lines, given[row_id][field])
            except LineError as error:
                errors.append((error.line, str(error)))
        elif row_id in gone:
            not_applied += [NotApplied(one, gone[row_id]["rule"], gone[row_id]["kept_id"]) for one in lines]
        else:
            absent = f"no row has the id {row_id!r}; correct it, or delete the line if the row left the data"
            sentence = others.get(row_id, absent)
            errors += [(one.line, sentence) for one in lines]
    refuse(errors, path)
    return Settled(outcomes, not_applied)


def name_rule(outcome: Outcome, given: str) -> str:
    """What was decided about a label, as the name of a rule: `confirm_label`, `relabel`, and so for the reference."""
    confirmed = outcome.value == given
    if outcome.deciding.field == "label":
        return "confirm_label" if confirmed else "relabel"
    return "confirm_reference_label" if confirmed else "correct_reference_label"


def apply_corrections(records: pl.DataFrame, outcomes: dict[tuple[str, str], Outcome]) -> Corrected:
    """The records with the outcomes applied, in their order; every id of the outcomes is among them."""
    concerned = records.filter(pl.col("id").is_in(sorted({row_id for row_id, _ in outcomes})))
    given = {row["id"]: row for row in concerned.select("id", "text", *LABEL_FIELDS).to_dicts()}
    decided, gone = [], []
    for (row_id, field), outcome in outcomes.items():
        by = outcome.deciding
        who = (by.reason, by.reviewer, by.date, by.line)
        if field == "row":
            if outcome.value == "remove":
                gone.append((row_id, REMOVAL, given[row_id]["text"], None, *who))
        else:
            before = given[row_id][field]
            decided.append((row_id, name_rule(outcome, before or ""), before, outcome.value or None, *who))
    changed = pl.DataFrame(decided, DECIDED_SCHEMA, orient="row")
    removed = pl.DataFrame(gone, DECIDED_SCHEMA, orient="row")

    out = records
    for field, rule in (("label", "relabel"), ("reference_label", "correct_reference_label")):
        news = changed.filter(pl.col("rule") == rule).select("id", new="after")
        out = (
            out.join(news.with_columns(is_new=True), on="id", how="left", maintain_order="left")
            .with_columns(pl.when("is_new").then("new").otherwise(field).alias(field))
            .drop("new", "is_new")
        )
    looked_at = changed.filter(pl.col("rule").is_in(["relabel", "confirm_label"]))["id"]
    out = out.with_columns(pl.col("id").is_in(looked_at.implode()).alias("reviewed"))
    kept = out.join(removed.select("id"), on="id", how="anti", maintain_order="left")
    order = records.select("id").with_row_index("row")
    changed, removed = (
        decisions.join(order, on="id", how="left").sort("row", "rule").drop("row") for decisions in (changed, removed)
    )
    return Corrected(kept, changed, removed)
