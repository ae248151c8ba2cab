import numpy as np
import polars as pl
import pytest

from assay.augmentation import make_examples
from assay.augmentation.checks import LabelPreservation
from assay.augmentation.make_examples import AugmentParams

SEED = (7, "test")
PARAMS = AugmentParams(
    wordnet="wordnet",
    own_tokens=["[COL]"],
    recipes=[],
    balance=0.0,
    preserve=LabelPreservation(min_cosine_to_parent=0.7, probe_folds=2, probe_C=1.0),
    max_jaccard_to_held_out=0.8,
    max_cosine_to_held_out=0.9,
    workers=1,
)


def rows(start: int, count: int) -> pl.DataFrame:
    ids = [f"r{number}" for number in range(start, start + count)]
    return pl.DataFrame(
        {"id": ids, "text": [f"text of {id_}" for id_ in ids], "label": ["a", "b"] * (count // 2) + ["a"] * (count % 2)}
    )


def examples(**texts: tuple[str, str]) -> pl.DataFrame:
    """`id=(source, text)`: examples as they come from a recipe."""
    return pl.DataFrame(
        [(id_, text, "good", parent, "synonym", 1) for id_, (parent, text) in texts.items()],
        schema=make_examples.EXAMPLES_SCHEMA,
        orient="row",
    ).with_columns(jaccard_to_held_out=0.0, cosine_to_held_out=0.0, cosine_to_parent=1.0, places_lost=0)


def plan(train: pl.DataFrame, recipe: str, share: float, seed: int) -> pl.DataFrame:
    return make_examples.plan_examples(train, recipe, pl.repeat(share, train.height, eager=True), (seed, "test"))


def test_rows_are_sampled_by_hash() -> None:
    train = rows(0, 400)
    chosen = set(plan(train, "synonym", 0.25, 7)["parent_id"])
    assert len(chosen) == pytest.approx(100, abs=30)
    # Half as many rows: the draw of those that are left stays.
    fewer = set(plan(train.tail(200), "synonym", 0.25, 7)["parent_id"])
    assert fewer == chosen & set(train.tail(200)["id"])
    # A larger share takes more rows and leaves none; another recipe or seed takes others.
    assert chosen < set(plan(train, "synonym", 0.5, 7)["parent_id"])
    assert chosen != set(plan(train, "character_noise", 0.25, 7)["parent_id"])
    assert chosen != set(plan(train, "synonym", 0.25, 8)["parent_id"])
    assert plan(train, "synonym", 1.0, 7).height == 400


def test_examples_are_removed_for_the_first_reason_that_fits() -> None:
    train = pl.DataFrame({"id": ["a", "b"], "text": ["one <URL>", "two"]})
    made = examples(
        same=("a", "one <URL>"),
        other=("a", "two"),
        new=("a", "three <URL>"),
        again=("b", "three <URL>"),
        lost=("a", "uno"),
        close=("b", "four"),
        alike=("b", "vier"),
        far=("b", "5"),
        astray=("b", "6"),
        relabelled=("b", "7"),
    )
    made = made.with_columns(
        jaccard_to_held_out=pl.Series([0.9, 0.9, 0.0, 0.9, 0.9, 0.8, 0.0, 0.79, 0.0, 0.0]),
        cosine_to_held_out=pl.Series([None, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.89, 0.1, 0.1]),
        cosine_to_parent=pl.Series([None, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.7, 0.69, 0.7]),
        places_lost=pl.Series([None, 1, -1, 1, 1, 1, 1, 0, 1, 1]),
    )
    filtered = make_examples.filter_examples(made, train, PARAMS)
    assert filtered.kept["id"].to_list() == ["new", "far"]
    assert filtered.removed.select("id", "rule").rows() == [
        ("same", "identical_to_parent"),
        ("other", "duplicate"),
        ("again", "duplicate"),
        ("lost", "placeholder_changed"),
        ("close", "near_held_out"),
        ("alike", "near_held_out"),
        ("astray", "meaning_changed"),
        ("relabelled", "label_lost"),
    ]
    assert filtered.removed["before"].to_list()[2:5] == ["three <URL>", "uno", "four"]


def test_rarer_labels_get_more_examples() -> None:
    labels = pl.Series("label", ["a"] * 80 + ["b"] * 20)
    assert make_examples.examples_per_row(labels, 0.1, 0.2, 0.0).unique().to_list() == [0.1]
    # 60 are lacking; each of two like recipes is to make 30 of 20 rows, beside its own share.
    full = make_examples.examples_per_row(labels, 0.1, 0.2, 1.0)
    assert (full[0], full[99]) == (pytest.approx(0.1), pytest.approx(1.6))
    assert make_examples.examples_per_row(labels, 0.1, 0.2, 0.5)[99] == pytest.approx(0.85)
    assert make_examples.examples_per_row(labels, 0.0, 0.0, 1.0).sum() == 0
    rare = make_examples.examples_per_row(pl.Series("label", ["a"] * 1000 + ["b"]), 0.5, 0.5, 1.0)
    assert rare[1000] == make_examples.MAX_EXAMPLES_PER_ROW


def test_several_examples_of_a_row_have_ids_and_seeds_of_their_own() -> None:
    train = rows(0, 3)
    planned = make_examples.plan_examples(train, "synonym", pl.Series([0.0, 1.0, 3.0]), SEED)
    assert planned["id"].to_list() == ["r1~synonym", "r2~synonym", "r2~synonym~2", "r2~synonym~3"]
    assert planned["seed"].n_unique() == 4
    # The first example of a row is the same, however many there are.
    once = make_examples.plan_examples(train, "synonym", pl.Series([1.0, 1.0, 1.0]), SEED)
    assert once["seed"][2] == planned["seed"][1]


def test_no_leakage_passes() -> None:
    train, held_out = rows(0, 2), rows(2, 2)
    make_examples.refuse_leakage(
        train, held_out, np.array([0.79, 0.0]), np.array([1, -1]), 0.8, "cosine", is_given=False
    )
    make_examples.refuse_leakage(
        train.clear(), held_out, np.zeros(0), np.zeros(0, dtype=np.int64), 0.8, "cosine", is_given=False
    )
