from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import InputError
from assay.core.removed_rows import remove
from assay.duplicates.components import split_groups
from assay.splitting import assignment
from stages import split
from tests.own_cases import read_cases
from tests.own_params import change
from tests.own_results import read_outputs
from tests.template_params import sections

CASES = read_cases(__file__)

SEED = 7
COLUMNS = ("id", "text", "label", "near_duplicate_group", "semantic_group", "split_group", "thread", "part")
GIVEN = {"trn": "train", "dev": "validation", "tst": "test"}
PARAMS = sections(seed=7, split={"group_column": None, "large_group_share": 0.5, "given_values": GIVEN})
SPLIT = PARAMS["split"]

Row = tuple[str, str | None, str]


def records(rows: list[Row]) -> pl.DataFrame:
    """Rows of id, label, group."""
    return pl.DataFrame(
        [(id_, f"text {id_}", label, group, group, group, None, "trn") for id_, label, group in rows],
        schema=dict.fromkeys(COLUMNS, pl.String),
        orient="row",
    )


def singles(**labels: int) -> list[Row]:
    """`label=n`: n rows of a label, each its own group."""
    return [(f"{label}{i}", label, f"{label}{i}") for label, n in labels.items() for i in range(n)]


def assigned(table: pl.DataFrame, seed: int = SEED, **params: Any) -> tuple[dict[str, str], assignment.Assignment]:
    """Split by row id."""
    assigned_groups = assignment.assign(table, assignment.SplitParams(**SPLIT | params), seed)
    return dict(assigned_groups.rows.select("id", "split").iter_rows()), assigned_groups


@pytest.fixture(autouse=True)
def repository() -> None:
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")


def run(rows: list[Row], **columns: pl.Expr) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    records(rows).with_columns(**columns).write_parquet("data/annotation_qa/records.parquet", mkdir=True)
    pl.DataFrame(schema={"id": pl.String}).write_parquet("data/clean/unlabelled.parquet", mkdir=True)
    split.main()
    return read_outputs("data/split", "split")


def test_the_shares_hold_in_every_label() -> None:
    table = records(singles(a=4000, b=1000))
    splits, assigned_groups = assigned(table)
    assert assigned_groups.forced == {}
    for label, rows in (("a", 4000), ("b", 1000)):
        found = [splits[f"{label}{i}"] for i in range(rows)]
        shares = [found.count(name) / rows for name in assignment.SPLITS]
        # Three standard errors of a share of 0.7 among 1,000 rows.
        assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.044)


def test_the_seed_matters() -> None:
    table = records(singles(a=100, b=100))
    assert assigned(table, 1)[0] == assigned(table, 1)[0] != assigned(table, 2)[0]


def test_a_group_counts_for_the_label_that_fewest_groups_have() -> None:
    table = records([("x", "a", "g"), ("g", "b", "g"), ("y", "a", "h"), ("z", "a", "h"), ("w", "c", "i")])
    assert assignment.strata(table).rows() == [("g", "b", 2, 0.0), ("h", "a", 2, 2 / 3), ("i", "c", 1, 0.0)]


@pytest.mark.parametrize("rows", range(3, 12))
def test_a_small_label_is_in_every_split(rows: int) -> None:
    for letter in "abcdefgh":
        splits, assigned_groups = assigned(records(singles(**{letter: rows})))
        assert set(splits.values()) == set(assignment.SPLITS)
        assert set(assigned_groups.forced) <= {letter}


def test_a_corrected_label_moves_no_row() -> None:
    table = records(singles(a=300, b=300))
    corrected = table.with_columns(label=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("b")).otherwise("label"))
    before, after = assigned(table)[0], assigned(corrected)[0]
    assert before == after


def test_forced_labels_count_the_groups_that_moved() -> None:
    # Nearly everything trains: two of the three groups have to move.
    few: dict[str, Any] = {"train_fraction": 0.9999998, "validation_fraction": 0.0000001, "test_fraction": 0.0000001}
    assert assigned(records(singles(a=3)), **few)[1].forced == {"a": 2}


def test_a_large_group_is_assigned_first_and_the_others_fill_up_what_is_left() -> None:
    rows = [*singles(a=69, b=150), *((f"same{i}", "a", "same") for i in range(81))]
    for seed in range(20):
        splits, found = assigned(records(rows), seed)
        assert found.large.rows() == [("same", "a", 81, 81 / 150, "train")]
        shares = [
            [splits[id_] for id_, label, _ in rows if label == "a"].count(name) / 150 for name in assignment.SPLITS
        ]
        assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.13)
    # Three large ones: each split has one.
    three: list[Row] = [(f"{group}{i}", "a", group) for group in "xyz" for i in range(5)]
    assert set(assigned(records(three), large_group_share=0.1)[0].values()) == set(assignment.SPLITS)


def linked(random: np.random.Generator, start: int, rows: int, threads: int) -> pl.DataFrame:
    """Rows of three labels, a few of them near-duplicates, two in three in threads, some of which are linked."""
    ids = [f"r{number}" for number in range(start, start + rows)]
    near = [ids[random.integers(0, at + 1)] if random.random() < 0.1 else id_ for at, id_ in enumerate(ids)]
    values = [f"t{number}" if number < threads else None for number in random.integers(0, threads * 3 // 2, rows)]
    columns = {"id": ids, "near_duplicate_group": near, "semantic_group": ids, "thread": values}
    return pl.DataFrame(columns | {"label": random.choice(["a", "b", "c"], rows)})


def splits_of(table: pl.DataFrame) -> dict[str, str]:
    grouped = split_groups(table, ["near_duplicate_group", "semantic_group"], "thread", (SEED, "s"))
    return assigned(table.hstack([grouped["split_group"]]))[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_new_order_and_new_rows_move_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    old = linked(random, 0, 400, 60)
    before = splits_of(old)
    # Rows by themselves, linked to each other, and of old threads.
    new = linked(random, 400, 800, 60).with_columns(thread=pl.when(pl.int_range(pl.len()) % 2 == 0).then("thread"))
    fresh = new.with_columns(
        near_duplicate_group=pl.when(pl.col("thread").is_null()).then("near_duplicate_group").otherwise("id")
    )
    apart = fresh.filter(pl.len().over("near_duplicate_group") == 1)
    after = splits_of(pl.concat([apart, old]).sample(fraction=1, shuffle=True, seed=seed))
    assert {id_: after[id_] for id_ in before} == before
    assert splits_of(old.reverse()) == before


def test_a_row_that_links_two_groups_moves_one_of_them() -> None:
    old = linked(np.random.default_rng(3), 0, 400, 60)
    before, first = splits_of(old), old.filter(pl.col("thread") == "t1").head(1)
    other = old.filter(pl.col("thread") == "t2")["near_duplicate_group"][0]
    after = splits_of(pl.concat([old, first.with_columns(id=pl.lit("link"), near_duplicate_group=pl.lit(other))]))
    moved = {id_ for id_ in before if after[id_] != before[id_]}
    groups = split_groups(old, ["near_duplicate_group"], "thread", (SEED, "s")).hstack(old["id", "thread"])
    concerned = groups.filter(
        pl.col("split_group").is_in(
            groups.filter(pl.col("thread").is_in(["t1", "t2"]))["split_group"].unique().implode()
        )
    )
    parts = [set(part["id"]) for part in concerned.partition_by("split_group")]
    assert moved in (set(), *parts)


rows_of_groups = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("ab")), min_size=0, max_size=60
)  # group number, label


@settings(max_examples=60, deadline=None)
@given(rows_of_groups, rows_of_groups)
def test_adding_rows_moves_no_old_row(old: list[tuple[int, str]], new: list[tuple[int, str]]) -> None:
    # Each group's own row comes first, so its label is known from the start; both labels have enough groups.
    base = singles(a=24, b=25)
    base += [(f"old{i}", label, f"{'ab'[number % 2]}{number % 4}") for i, (number, label) in enumerate(old)]
    more: list[Row] = [(f"new{i}", label, f"new-group{number}") for i, (number, label) in enumerate(new)]
    before, first = assigned(records(base))
    after, second = assigned(records(more + base))
    # For a small label, or one that is mostly one group, old rows may have to move.
    if not first.forced and not second.forced and not first.large.height and not second.large.height:
        assert {id_: after[id_] for id_ in before} == before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["a", "b", "c", None])), min_size=0, max_size=50))
def test_no_group_is_in_two_splits_and_no_row_is_lost(drawn: list[tuple[int, str | None]]) -> None:
    rows = singles(x=3, y=3) + [(f"r{i}", label, f"g{group}") for i, (group, label) in enumerate(drawn)]
    table = records(rows)
    labelled = remove(table, table.filter(pl.col("label").is_null()), "no_label")
    learnable = remove(labelled.kept, assignment.rare_label_rows(labelled.kept), "rare_label")
    assert table.height == learnable.kept.height + learnable.removed.height + labelled.removed.height
    _, assigned_groups = assigned(learnable.kept)
    assert assigned_groups.rows["id"].to_list() == learnable.kept["id"].to_list()
    by_group = assigned_groups.rows.group_by("split_group").agg(pl.col("split").n_unique())
    assert by_group["split"].to_list() == [1] * by_group.height
    # Every label that decides for as many groups is in each split.
    for (label,), part in assignment.strata(learnable.kept).partition_by("stratum", as_dict=True).items():
        found = assigned_groups.rows.join(part, on="split_group")["split"].n_unique()
        assert found == 3 or part.height < 3, label


def test_stage_writes_every_row_once_in_order() -> None:
    rows = singles(a=40, b=30, c=20)
    out, metrics = run(rows)
    parts = [out[name] for name in assignment.SPLITS]
    assert sorted(pl.concat(parts)["id"]) == sorted(id_ for id_, _, _ in rows)
    order = {id_: i for i, (id_, _, _) in enumerate(rows)}
    for part in parts:
        positions = [order[id_] for id_ in part["id"]]
        assert positions == sorted(positions)
        assert part.columns == list(COLUMNS)
    assert (metrics["rows_in"], metrics["rows_out"]) == (90, 90)
    assert metrics["removed"] == {"no_label": 0, "rare_label": 0}
    assert metrics["rows"] == {name: part.height for name, part in zip(assignment.SPLITS, parts, strict=True)}
    per_label = metrics["per_label"]
    assert per_label["b"]["test_share"] == pytest.approx(
        out["test"].filter(pl.col("label") == "b").height / 30, abs=1e-6
    )


def test_a_label_with_one_row_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"(?s)label 'postive': 1 row.*postive0.*rare_labels: remove"):
        run(singles(a=10, b=10, postive=1))
    assert not Path("data/split").exists()


def test_rows_that_say_the_same_are_one_group() -> None:
    rows = [*singles(a=10, b=10), ("c0", "c", "c0"), ("c1", "c", "c0"), ("c2", "c", "c0")]
    with pytest.raises(InputError, match=r"label 'c': 3 row"):
        run(rows)


def test_rare_labels_are_removed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    change("split", rare_labels="remove")
    out, metrics = run([*singles(a=10, b=10, c=2), ("n", None, "n")])
    assert out["removed"].rows() == [
        ("n", "no_label", "text n", None),
        ("c0", "rare_label", "text c0", None),
        ("c1", "rare_label", "text c1", None),
    ]
    assert metrics["removed"] == {"no_label": 1, "rare_label": 2}
    assert (metrics["rows_in"], metrics["rows_out"]) == (23, 20)
    assert "2 row(s) removed: rare_label" in capsys.readouterr().err


def test_small_labels_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, metrics = run(singles(a=200, b=200, small=3))
    assert metrics["forced_labels"] == {"small": 2}
    assert "label 'small' is small" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [[], singles(a=20), [("n", None, "n")]])
def test_fewer_than_two_labels_are_an_error(rows: list[Row]) -> None:
    with pytest.raises(InputError, match="at least two labels"):
        run(rows)


def test_a_missing_input_leaves_no_output() -> None:
    with pytest.raises(FileNotFoundError):
        split.main()
    assert not Path("data/split").exists()


def test_the_division_of_the_data_is_taken_and_what_leaks_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    change("split", given_column="part", group_column="thread")
    out, metrics = run(
        [*singles(a=60, b=60), ("t0", "a", "a0"), ("t1", "b", "t1")],
        part=pl.when(pl.col("id").is_in(["t0", "t1"])).then(pl.lit("tst")).otherwise("part"),
        # t0 is a duplicate of a0; t1 is of the thread of b0, and others are of none.
        thread=pl.when(pl.col("id").is_in(["t1", "b0"])).then(pl.lit("17")).otherwise(pl.lit(" ")),
    )
    assert out["test"]["id"].to_list() == ["t0", "t1"]
    # Of the train rows an eighth is drawn for validation, which the data does not have.
    assert (out["train"].height + out["validation"].height, 5 <= out["validation"].height <= 28) == (120, True)
    shared = {"identical": 0, "near_duplicate": 1, "semantic_duplicate": 1, "group": 1}
    assert {kind: found["shared"] for kind, found in metrics["leaks"].items()} == shared
    assert set(out["leaks"].filter(pl.col("kind") == "group").select("shared", "id").rows()) == {
        ("17", "b0"),
        ("17", "t1"),
    }
    said = capsys.readouterr().err
    assert "has no row for validation: made of train rows by hash" in said
    assert "leak by group: 1 shared, " in said


@pytest.mark.parametrize(("part", "label", "expected"), CASES["what_a_division_must_be"])
def test_what_a_division_must_be(part: str | None, label: str, expected: str) -> None:
    change("split", given_column="part")
    with pytest.raises(InputError) as caught:
        run(
            [*singles(a=4, b=4), ("x", label, "x")],
            part=pl.when(pl.col("id") == "x").then(pl.lit(part)).otherwise("part"),
        )
    assert expected in str(caught.value)
