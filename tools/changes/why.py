"""One row's way from the raw file to the training set: `make why ID=tweets:42`.

Reads what the stages wrote, in the order of the pipeline; a stage that has not run yet is passed over.
"""

import argparse
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from assay.core.errors import InputError, run_stage

DATA = Path("data")
RECORDS = DATA / "ingested/records.parquet"
REMOVALS = ("ingested", "clean", "corrected", "semantic_duplicates", "split", "label_errors", "augmented")
"""Folders with a `removed.parquet`, in the order of the pipeline."""
SPLITS = ("train", "validation", "test")
MEMBERS_SHOWN = 5
"""Other rows of its group that are named."""
PAIRS_SHOWN = 3
"""Rows closest to it that are shown."""


def rows_of(path: Path, row_id: str, column: str = "id") -> list[dict[str, object]]:
    """The rows of a Parquet file whose `column` is `row_id`; none where the file is not there yet."""
    if not path.is_file():
        return []
    return pl.scan_parquet(path).filter(pl.col(column) == row_id).collect().to_dicts()


def provenance(row: Mapping[str, object]) -> str:
    """Where the source of an ingested row comes from, and on what terms."""
    licence = f"licence {row['licence']}" if row["licence"] else "no licence stated"
    retrieved = f", retrieved {row['retrieved']}" if row["retrieved"] else ""
    return f"from {row['source_url']}, {licence}{retrieved}, {row['authenticity']}, SHA-256 {row['source_sha256']}"


def semantic_history(row_id: str, folder: Path) -> Iterator[str]:
    """The group of semantic duplicates, and the rows closest to this one."""
    pairs = [
        *((row["cosine"], row["other_id"], row["other_text"]) for row in rows_of(folder / "pairs.parquet", row_id)),
        *((row["cosine"], row["id"], row["text"]) for row in rows_of(folder / "pairs.parquet", row_id, "other_id")),
    ]
    own = rows_of(folder / "records.parquet", row_id)
    if pairs and not own:
        yield "semantic_duplicates: a duplicate of another row"
    for row in own:
        group = str(row["semantic_group"])
        members = [str(one["id"]) for one in rows_of(folder / "records.parquet", group, "semantic_group")]
        if others := [member for member in members if member != row_id]:
            more = f" and {len(others) - MEMBERS_SHOWN} more" if len(others) > MEMBERS_SHOWN else ""
            yield f"semantic_duplicates: in group {group} with {', '.join(others[:MEMBERS_SHOWN])}{more}"
        elif pairs:
            yield "semantic_duplicates: stands for its duplicates"
    for cosine, other, text in pairs[:PAIRS_SHOWN]:
        yield f"  cosine {cosine:.3f} to {other} {text!r}"


def decided(row: Mapping[str, object]) -> str:
    """Who decided something about a row, when, in which line, and why where that is said."""
    reason = f": {row['reason']}" if row["reason"] else ""
    return f"by {row['reviewer']} on {row['date']}, line {row['line']}{reason}"


def corrections(row_id: str, folder: Path) -> Iterator[str]:
    """What people decided about the labels of a row."""
    for row in rows_of(folder / "changed.parquet", row_id):
        field = "reference label" if "reference" in str(row["rule"]) else "label"
        change = "confirmed" if row["before"] == row["after"] else f"→ {row['after']!r}"
        yield f"correct: {field} {row['before']!r} {change} {decided(row)}"


def history(row_id: str, data: Path) -> Iterator[str]:
    """What each stage did with a row, a line or two each, in the order of the pipeline."""
    for row in rows_of(data / "ingested/records.parquet", row_id):
        yield f"ingest: read from {row['origin']}, label {row['label']!r}, reference {row['reference_label']!r}"
        yield f"  {row['text']!r}"
        yield f"  {provenance(row)}"
    for row in rows_of(data / "clean/changed.parquet", row_id):
        yield f"clean: changed by {row['rule']}"
        yield f"  {row['after']!r}"
    yield from corrections(row_id, data / "corrected")
    yield from semantic_history(row_id, data / "semantic_duplicates")
    for row in rows_of(data / "annotation_qa/records.parquet", row_id):
        if row["ratings"]:
            yield (
                f"annotation_qa: {row['ratings']} ratings, consensus {row['consensus_label']!r}, "
                f"given by {row['annotator_agreement']:.0%} of them"
            )
    for name in SPLITS:
        if rows_of(data / f"split/{name}.parquet", row_id):
            yield f"split: {name}"
    for row in rows_of(data / "label_errors/scores.parquet", row_id):
        verdict = "a label error" if row["is_label_error"] else "no label error"
        quality = row["label_quality"]
        shown = "not scored" if quality is None else f"quality {quality:.3f}"
        yield f"label_errors: {verdict} ({shown}, suggested {row['suggested_label']!r})"
    for folder in REMOVALS:
        for row in rows_of(data / folder / "removed.parquet", row_id):
            kept = f"; {row['kept_id']} stands for it" if row.get("kept_id") else ""
            who = f" {decided(row)}" if row.get("reviewer") else ""
            yield f"{folder}: removed by {row['rule']}{kept}{who}"
    for row in rows_of(data / "augmented/train.parquet", row_id):
        copy = f", made of {row['parent_id']} by {row['recipe']}," if row["parent_id"] else ""
        yield f"augment: trains{copy} with label {row['label']!r}"
    for row in rows_of(data / "augmented/train.parquet", row_id, "parent_id"):
        yield f"augment: augmented example {row['id']}"
        yield f"  {row['text']!r}"
    for path in sorted((data / "predictions").glob("*/predictions.parquet")):
        for row in rows_of(path, row_id):
            yield (
                f"evaluate@{path.parent.name}: {row['predicted_label']!r} with confidence {row['confidence']:.2f}, "
                f"target {row['target_label']!r}"
            )


def unknown_id(row_id: str, records: pl.Series) -> InputError:
    """The error for an id that no stage knows, with the nearest ones that there are."""
    # By prefix first: comparing with a million ids letter by letter would take minutes.
    near = records.filter(records.str.starts_with(row_id[: max(1, len(row_id) - 2)])).head(1000).to_list()
    close = difflib.get_close_matches(row_id, near, n=5, cutoff=0.0) or records.head(5).to_list()
    return InputError(f"{RECORDS}: no row has the id {row_id!r}; there are {', '.join(close)}, …")


def main() -> None:
    """Print the way of the row named on the command line."""
    parser = argparse.ArgumentParser(prog="make why", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("id", help="id of a row, such as tweets:42; of an augmented example, tweets:42~synonym")
    row_id = parser.parse_args().id
    lines = list(history(row_id, DATA))
    if not lines:
        raise unknown_id(row_id, pl.read_parquet(RECORDS, columns=["id"])["id"])
    print("\n".join([row_id, *lines]))


if __name__ == "__main__":
    run_stage(main)
