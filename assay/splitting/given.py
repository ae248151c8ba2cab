"""The division into splits that the data brings, such as an official test set, and what leaks between its parts."""

from pathlib import Path

import polars as pl

from assay.core.errors import InputError
from assay.core.seeds import keyed_uniform
from assay.splitting.assignment import SPLITS, Assignment, SplitParams

LEAKS_SCHEMA = pl.Schema(dict.fromkeys(("kind", "shared", "id", "split", "label", "text"), pl.String))


def take_given_splits(records: pl.DataFrame, params: SplitParams, path: Path, seed: int) -> Assignment:
    """Take the split of each row from `given_column`; one that the data does not have is made of train rows by hash.

    Raises `InputError`: a value is unknown, or no row is in train.
    """
    column = str(params.given_column)
    split = records[column].replace_strict(params.given_values, default=None, return_dtype=pl.String)
    unknown = records.filter(split.is_null())
    if unknown.height:
        raise InputError(
            f"{path}: {unknown.height} row(s), such as {unknown['id'][0]!r}, have {unknown[column][0]!r} in column"
            f" {column!r} (`split.given_column`), which is not in `split.given_values` = {params.given_values}: add it"
            " there, or correct the data"
        )
    if not (split == "train").any():
        raise InputError(f"{path}: no row is in train by column {column!r}; correct `split.given_values`")
    made = [name for name in SPLITS if not (split == name).any()]
    total = params.train_fraction + sum(params.fractions[name] for name in made)
    draw = keyed_uniform(records["split_group"], seed, "split") * total - params.train_fraction
    rows = records.with_columns(split=split)
    for name in made:
        # What the splits before it left in train.
        moves = (pl.col("split") == "train") & draw.is_between(0, params.fractions[name], closed="left")
        rows = rows.with_columns(split=pl.when(moves).then(pl.lit(name)).otherwise("split"))
        draw -= params.fractions[name]
    messages = [f"column {column!r} has no row for {name}: made of train rows by hash" for name in made]
    return Assignment(rows, pl.DataFrame(), {}, messages)


def find_leaks(rows: pl.DataFrame, group_column: str | None) -> tuple[pl.DataFrame, dict[str, dict[str, int]]]:
    """What rows of several splits share: those rows, and counts.

    `kind` says what they share (`LEAKS_SCHEMA`); for each kind, the number of texts, groups or values that are
    `shared`, and the rows of each split that share them.
    """
    kinds = {"identical": "text", "near_duplicate": "near_duplicate_group", "semantic_duplicate": "semantic_group"}
    kinds |= {"group": group_column} if group_column else {}
    found, counts = [], {}
    for kind, column in kinds.items():
        table = rows.with_columns(kind=pl.lit(kind), shared=pl.col(column).cast(pl.String)).select(LEAKS_SCHEMA.names())
        named = table.filter(pl.col("shared").str.strip_chars() != "")
        leaks = named.filter(pl.col("split").n_unique().over("shared") > 1).sort("shared", "split", "id")
        by_split = {f"{name}_rows": leaks.filter(pl.col("split") == name).height for name in SPLITS}
        counts[kind] = {"shared": leaks["shared"].n_unique()} | by_split
        found.append(leaks)
    return pl.concat(found), counts
