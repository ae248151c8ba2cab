"""One row's way from the raw file to the predictions: `make why ID=tweets:42`, `make why TEXT="the card came late"`.

Reads what the stages wrote, in the order of the pipeline; a stage that has not run yet is passed over. A text is looked
for as it was read and as it was cleaned, and among the questions of the chats; if it is nowhere, the row most similar
to it is shown, by the shingles that near-duplicates are found by. What the cleaning rules do with the text comes first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl

from assay.cleaning.row_cleaning import keep_usable
from assay.cleaning.rules import CleanParams
from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.core.row_ids import answerable, unanswerable
from assay.core.seeds import keyed_uniform
from assay.duplicates.near_duplicates import IDENTICAL
from assay.duplicates.shingles import Documents, compute_jaccard, normalise_texts
from assay.instruction_data.cleaning import apply_clean_rules
from assay.splitting.assignment import SPLITS, SplitParams
from tools.command_line import command_line

DATA = Path("data")
REMOVALS = ("ingested", "clean", "corrected", "semantic_duplicates", "split", "label_errors", "augmented", "instruct")
"""Folders with a `removed.parquet`, in the order of the pipeline."""
TEXTS = dict.fromkeys(("ingested/records", "clean/records", "clean/unlabelled"), "text")
TEXTS |= {f"instruct/{name}": "question" for name in SPLITS}
"""Tables with the texts that a text is looked for among, and the column."""
MEMBERS_SHOWN = 5
"""Other rows of its group that are named."""
PAIRS_SHOWN = 3
"""Rows closest to it that are shown."""


def split_reason(row: Mapping[str, Any], split: str) -> str:
    """Why a row is in its split."""
    params, group = load_params("split", SplitParams), row["split_group"]
    if column := params.given_column:
        return f"as the data say: {column} is {row[column]!r}"
    draw = keyed_uniform(pl.Series([group]), load_params("seed", int), "split")[0]
    drawn = SPLITS[sum(draw >= end for end in np.cumsum([*params.fractions.values()])[:2])]
    moved = "" if drawn == split else f", moved to {split}: its label is small or its group large (metrics/split.json)"
    return f"the hash of its group {group!r} is {draw:.4f}, which is {drawn}{moved}"


def history(row_id: str, data: Path) -> list[str]:
    """What each stage did with a row, a line or two each, in the order of the pipeline."""

    def rows(table: str, column: str = "id", value: str = row_id) -> list[dict[str, Any]]:
        path = data / f"{table}.parquet"
        return pl.scan_parquet(path).filter(pl.col(column) == value).collect().to_dicts() if path.is_file() else []

    def beside(row: Mapping[str, Any], table: str, group: str) -> str:
        ids = [str(one["id"]) for one in rows(table, group, row[group]) if one["id"] != row_id]
        more = f" and {len(ids) - MEMBERS_SHOWN} more" if len(ids) > MEMBERS_SHOWN else ""
        return ", ".join(ids[:MEMBERS_SHOWN]) + more

    def tables(pattern: str) -> list[str]:
        return sorted(file.relative_to(data).with_suffix("").as_posix() for file in data.glob(f"{pattern}.parquet"))

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent))
    environment.filters["repr"] = repr
    environment.tests["probability_of_label"] = lambda name: name.startswith("probability_")
    environment.globals |= {"rows": rows, "beside": beside, "tables": tables, "split_reason": split_reason}
    environment.globals |= {"splits": SPLITS, "removals": REMOVALS, "most_pairs": PAIRS_SHOWN}
    text = environment.get_template("why.jinja").render(unanswerable=unanswerable(answerable(row_id)))
    return [line for line in text.splitlines() if line.strip()]


def read_texts(data: Path) -> pl.LazyFrame:
    """`id` and `text` of the rows of the tables of `TEXTS` that are there."""
    files = {data / f"{name}.parquet": column for name, column in TEXTS.items()}
    found = [pl.scan_parquet(file).select("id", text=column) for file, column in files.items() if file.is_file()]
    return pl.concat([pl.LazyFrame(schema={"id": pl.String, "text": pl.String}), *found])


def find_text(text: str, params: CleanParams, data: Path) -> tuple[str, list[str]]:
    """The id of the row with a text, or of the one most similar to it, and what cleaning does with the text.

    Raises `InputError`: no text has a shingle in common with it, or no stage has run.
    """
    row = pl.DataFrame({"id": ["text"], "source": ["text"], "text": [text]})
    settled = apply_clean_rules(row, params)
    said = [f"clean: {rule} makes it {after!r}" for rule, after in settled.changed.select("rule", "after").iter_rows()]
    removed = keep_usable(row.with_columns(text=settled.texts), params).removed
    said = [*said, *(f"clean: removed by {rule}" for rule in removed["rule"])] or ["clean: no rule changes it"]
    cleaned, rows, near = settled.texts[0], read_texts(data), params.near_duplicates or IDENTICAL
    same = rows.filter(pl.col("text").is_in([text, cleaned])).unique("id", maintain_order=True).collect()["id"]
    if len(same):
        return same[0], [*said, f"found: {', '.join(same.head(MEMBERS_SHOWN))} ({len(same)} with this text)"]
    found = rows.collect()
    texts = normalise_texts(pl.concat([settled.texts, found["text"]]))
    documents = Documents(texts, near.shingle_size)
    jaccard = compute_jaccard(documents, np.zeros(found.height, np.int64), np.arange(1, found.height + 1))
    if not jaccard.any():
        raise InputError(f"{data}: no text has anything in common with {text!r}; give an id, or another text")
    best = int(jaccard.argmax())
    kind = "near-duplicate" if jaccard[best] >= near.min_jaccard else "most similar text, no near-duplicate"
    shown = f"found: the {kind}, Jaccard similarity {jaccard[best]:.3f}: {found['id'][best]} {found['text'][best]!r}"
    return found["id"][best], [*said, shown]


def unknown_id(row_id: str, ids: pl.Series) -> InputError:
    """The error for an id that no stage knows, with ids that begin alike."""
    prefixes = (row_id[:end] for end in range(max(1, len(row_id) - 2), -1, -1))
    near = next((found for one in prefixes if len(found := ids.filter(ids.str.starts_with(one)))), ids)
    return InputError(f"{DATA}: no row has the id {row_id!r}; there are {', '.join(near.sort().head(5))}, …")


def main() -> None:
    """Print the way of the row named on the command line."""
    parser = command_line("make why", __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    of_id = "id of a row, such as tweets:42; of an augmented example, tweets:42~synonym"
    which.add_argument("id", nargs="?", help=of_id)
    which.add_argument("--text", help="a text in the place of an id")
    row_id, text = vars(parser.parse_args()).values()
    said = list[str]()
    if text is not None:
        row_id, said = find_text(text, load_params("clean", CleanParams), DATA)
    lines = list(history(row_id, DATA))
    if not lines:
        raise unknown_id(row_id, read_texts(DATA).select("id").collect()["id"])
    print("\n".join([*said, row_id, *lines]))


if __name__ == "__main__":
    run_stage(main)
