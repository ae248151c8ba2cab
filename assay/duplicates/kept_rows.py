"""Which of several duplicates stay: one stands for those that say the same, and nothing that differs in meaning goes.

Similar texts may say the opposite: "5 stars" and "1 star", ":)" and ":(", "-5" and "5", "good" and "not good". So a row
goes only for one of the same label, with the same marks of meaning, and directly as similar as the threshold asks: not
by a chain of others. All rows of the chain are one group all the same, and go to one split.

Legend: `n` rows, `p` pairs.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.core.patterns import fill_patterns
from assay.core.seeds import SeedKey, keyed_uniform
from assay.duplicates.components import first_equal
from assay.duplicates.near_duplicates import NearDuplicateParams, near_duplicate_groups
from assay.duplicates.shingles import Documents, Indices, compute_jaccard, normalise_texts

MAX_ROUNDS = 16
"""Of unlike rows of one group and label, so many are tried as the one that stays for others; the rest stay, too."""
KNOWN_LABEL = pl.coalesce("reference_label", "label")
"""The label that is known best, by which rows are compared; the given one may be that of a single rater."""
FOLDED = {"\u2212": "-", "\u2013": "-", "\u2018": "'", "\u2019": "'"}
_PATTERNS = yaml.safe_load(Path(__file__).with_name("marks.yaml").read_text(encoding="utf-8"))
NO_MARKS, NEGATION = fill_patterns(_PATTERNS, {}).values()


def meaning_marks(texts: pl.Series) -> pl.Series:
    """What counts beside the words when two texts are compared: digits, signs, `?`, smileys, symbols, and negations."""
    folded = texts.str.normalize("NFKC").str.to_lowercase().str.replace_many(FOLDED)
    symbols = folded.str.replace_all(NO_MARKS, " ").str.strip_chars()
    # However often it is asked, and a bracket smiles.
    symbols = symbols.str.replace_all(r"\?[?\s]+", "?").str.replace_all(r"\){2,}", ")").str.replace_all(r"\({2,}", "(")
    return (symbols + " " + folded.str.extract_all(NEGATION).list.join(" ")).alias("marks")


def is_held_out(columns: list[str], table: object) -> pl.Expr:
    """Whether a division that the data brings (`split.given_column`) has a row outside train; without one, it has not.

    Such a row stays whatever it is a duplicate of: the test set is to be the one that others have.
    Raises `InputError`: the column is not among those of the table.
    """
    column = load_params("split.given_column", object)
    values = load_params("split.given_values", dict[str, str])
    if column is None:
        return pl.lit(value=False)
    if column not in columns:
        fix = "add it to `carry` of the sources in `ingest`, or set null"
        raise InputError(f"{table}: no column {column!r} (`split.given_column`); it has {columns}: {fix}")
    in_train = pl.col(str(column)).is_in([value for value, split in values.items() if split == "train"])
    return ~in_train.fill_null(value=False)


def choose_kept(
    rows: pl.DataFrame, same: tuple[str, ...], is_close: Callable[[Indices, Indices], NDArray[np.bool_]]
) -> Indices:
    """The row that stands for each row, itself where it stays, `(n,)`.

    Args:
        rows: with `held_out`, which are alone, and `order`: the row that comes first stays, wherever it stands.
        same: the columns in which rows agree, nulls included, of which one may stand for another.
        is_close: whether the rows `(p,)` and `(p,)` are directly similar, `(p,)`.
    """
    alone = pl.when("held_out").then(pl.int_range(pl.len())).otherwise(-1)
    group = first_equal(rows.select(*same, alone=alone), *same, "alone")
    kept = np.arange(rows.height)
    waiting = np.lexsort((rows["order"].to_numpy(), group))
    for _ in range(MAX_ROUNDS):
        if not len(waiting):
            break
        starts = np.flatnonzero(np.diff(group[waiting], prepend=-1))
        leaders = np.repeat(waiting[starts], np.diff(starts, append=len(waiting)))
        is_done = waiting == leaders
        others = np.flatnonzero(~is_done)
        is_done[others] = is_close(leaders[others], waiting[others])
        kept[waiting[is_done]] = leaders[is_done]
        waiting = waiting[~is_done]
    return kept


def find_duplicates(
    rows: pl.DataFrame, params: NearDuplicateParams | None, on_conflict: str, seed: SeedKey
) -> pl.DataFrame:
    """The group of each row of more than one, and the row that stands for it.

    Args:
        rows: `id`, `text`, `label` and `held_out` (see `is_held_out`).
        params: null: identical texts alone.
        on_conflict: `majority`: of identical texts, those of the most frequent label alone stay, unless two are.

    Returns a row for each of the rows: `group` (id of a row that stays), `kept_id` (its own where it stays), `rule`
    (null where it stays), `labels_differ` (among rows of the group with the same marks); all null where it is alone.
    """
    first = near_duplicate_groups(rows["text"], params)
    at = np.flatnonzero(np.bincount(first, minlength=len(first))[first] > 1)
    members = rows[at].with_columns(
        order=keyed_uniform(rows["id"].gather(at), *seed, "kept"),
        place=pl.Series(first[at]),
        marks=meaning_marks(rows["text"].gather(at)),
        stands=pl.col("label"),
    )
    if on_conflict == "majority":
        members = members.with_columns(votes=pl.len().over("text", "label", "held_out"))
        most = pl.col("label").filter(pl.col("votes") == pl.col("votes").max())
        winner = pl.when(most.n_unique() == 1).then(most.first()).over("text", "held_out")
        members = members.with_columns(stands=pl.when("held_out").then("label").otherwise(pl.coalesce(winner, "label")))
    is_minority = pl.col("stands").ne_missing(pl.col("label"))
    # One of the minority stands for no other row.
    members = members.with_columns(order=pl.col("order") + is_minority.cast(pl.Int64))
    number = np.arange(len(at))
    exact = choose_kept(members, ("text", "stands"), lambda left, _: np.ones(len(left), dtype=np.bool_))
    near = number.copy()
    if params is not None:
        texts = Documents(normalise_texts(members["text"]), params.shingle_size)
        limit, stay = params.min_jaccard, np.flatnonzero(exact == number)
        near[stay] = stay[
            choose_kept(
                members[stay],
                ("place", "label", "marks"),
                lambda left, right: compute_jaccard(texts, stay[left], stay[right]) >= limit,
            )
        ]
    kept = near[exact]
    duplicate = pl.when(pl.Series(exact != number)).then(pl.lit("exact_duplicate")).otherwise(pl.lit("near_duplicate"))
    found = members.select(
        group=pl.col("id").sort_by("order").first().over("place"),
        kept_id=members["id"].gather(kept),
        rule=pl.when(pl.Series(kept != number)).then(
            pl.when(is_minority).then(pl.lit("conflicting_label")).otherwise(duplicate)
        ),
        labels_differ=pl.col("label").drop_nulls().n_unique().over("place", "marks") > 1,
        row=pl.Series(at),
    )
    return rows.select(row=pl.int_range(pl.len())).join(found, on="row", how="left", maintain_order="left").drop("row")
