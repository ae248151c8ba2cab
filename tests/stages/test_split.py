import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import InputError
from assay.core.removed_rows import remove
from assay.splitting import assignment
from stages import split

SEED = 7
COLUMNS = ("id", "text", "label", "semantic_group")
PARAMS = """
seed: 7
split: {train_fraction: 0.7, validation_fraction: 0.1, test_fraction: 0.2, rare_labels: error}
"""

Row = tuple[str, str | None, str]


def records(rows: list[Row]) -> pl.DataFrame:
    """Rows of id, label, semantic group."""
    return pl.DataFrame(
        [(id_, f"text {id_}", label, group) for id_, label, group in rows],
        schema=dict.fromkeys(COLUMNS, pl.String),
        orient="row",
    ).with_columns(given_label="label")


def singles(**labels: int) -> list[Row]:
    """`label=n`: n rows of a label, each its own group."""
    return [(f"{label}{i}", label, f"{label}{i}") for label, n in labels.items() for i in range(n)]


def assigned(table: pl.DataFrame) -> tuple[dict[str, str], assignment.Assignment]:
    """Split by row id."""
    assigned_groups = assignment.assign(assignment.strata(table), 0.7, 0.1, SEED)
    joined = table.join(assigned_groups.groups, on="semantic_group")
    return dict(joined.select("id", "split").iter_rows()), assigned_groups


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    Path("data/annotation_qa").mkdir(parents=True)
    Path("data/clean").mkdir()
    return tmp_path


def run(rows: list[Row]) -> tuple[dict[str, pl.DataFrame], dict[str, object]]:
    records(rows).drop("given_label").write_parquet("data/annotation_qa/records.parquet")
    records(rows).write_parquet("data/clean/records.parquet")
    split.main()
    names = ("train", "validation", "test", "removed")
    return (
        {name: pl.read_parquet(f"data/split/{name}.parquet") for name in names},
        json.loads(Path("metrics/split.json").read_text(encoding="utf-8")),
    )


def change_params(old: str, new: str) -> None:
    Path("params.yaml").write_text(PARAMS.replace(old, new), encoding="utf-8")


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
    groups = assignment.strata(records(singles(a=100, b=100)))
    first = assignment.assign(groups, 0.7, 0.1, 1).groups
    assert first.equals(assignment.assign(groups, 0.7, 0.1, 1).groups)
    assert not first.equals(assignment.assign(groups, 0.7, 0.1, 2).groups)


def test_a_group_follows_its_own_row() -> None:
    table = records([("x", "a", "g"), ("g", "b", "g"), ("y", "c", "y"), ("z", "d", "h"), ("w", "e", "h")])
    assert assignment.strata(table).select("semantic_group", "stratum").rows() == [("g", "b"), ("y", "c"), ("h", "d")]


@pytest.mark.parametrize("rows", range(3, 12))
def test_a_small_label_is_in_every_split(rows: int) -> None:
    for letter in "abcdefgh":
        splits, assigned_groups = assigned(records(singles(**{letter: rows})))
        assert set(splits.values()) == set(assignment.SPLITS)
        by_draw = assignment.assign(assignment.strata(records(singles(**{letter: rows}))), 0.7, 0.1, SEED).groups[
            "split"
        ]
        assert by_draw.to_list() == sorted(by_draw, key=assignment.SPLITS.index)
        assert set(assigned_groups.forced) <= {letter}


def test_a_corrected_label_moves_no_row() -> None:
    table = records(singles(a=300, b=300))
    corrected = table.with_columns(label=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("b")).otherwise("label"))
    before, after = assigned(table)[0], assigned(corrected)[0]
    assert before == after


def test_forced_labels_count_the_groups_that_moved() -> None:
    table = records(singles(a=3))
    # Nearly everything trains: two of the three groups have to move.
    assert assignment.assign(assignment.strata(table), 0.9999998, 0.0000001, SEED).forced == {"a": 2}


rows_of_groups = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("ab")), min_size=0, max_size=60
)  # group number, label


@settings(max_examples=60, deadline=None)
@given(rows_of_groups, rows_of_groups)
def test_adding_rows_moves_no_old_row(old: list[tuple[int, str]], new: list[tuple[int, str]]) -> None:
    # Each group's own row comes first, so its label is known from the start; both labels have enough groups.
    base = singles(a=4, b=5)
    base += [(f"old{i}", label, f"{'ab'[number % 2]}{number % 4}") for i, (number, label) in enumerate(old)]
    more: list[Row] = [(f"new{i}", label, f"new-group{number}") for i, (number, label) in enumerate(new)]
    before, first = assigned(records(base))
    after, second = assigned(records(more + base))
    steady = {group for group, label, _ in first.groups.iter_rows() if label not in first.forced}
    for id_, _, group in base:
        if group in steady:
            assert after[id_] == before[id_]
    # Growing never makes a label small.
    assert set(second.forced) <= set(first.forced)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["a", "b", "c", None])), min_size=0, max_size=50))
def test_no_group_is_in_two_splits_and_no_row_is_lost(drawn: list[tuple[int, str | None]]) -> None:
    rows = singles(x=3, y=3) + [(f"r{i}", label, f"g{group}") for i, (group, label) in enumerate(drawn)]
    table = records(rows)
    labelled = remove(table, table.filter(pl.col("label").is_null()), "no_label")
    learnable = remove(labelled.kept, assignment.rare_label_rows(labelled.kept), "rare_label")
    assert table.height == learnable.kept.height + learnable.removed.height + labelled.removed.height
    _, assigned_groups = assigned(learnable.kept)
    assert assigned_groups.groups["semantic_group"].is_unique().all()
    assert set(assigned_groups.groups["semantic_group"]) == set(learnable.kept["semantic_group"])
    # Every label that is left decides for groups in each split.
    in_splits = assigned_groups.groups.group_by("stratum").agg(pl.col("split").n_unique())
    assert set(in_splits["stratum"]) == set(learnable.kept["label"])
    assert in_splits["split"].to_list() == [3] * in_splits.height


@pytest.mark.usefixtures("repository")
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
    assert isinstance(per_label, dict)
    assert per_label["b"]["test_share"] == pytest.approx(
        out["test"].filter(pl.col("label") == "b").height / 30, abs=1e-6
    )
    deviations = [
        abs(per_label[label][f"{name}_share"] - share)
        for label in "abc"
        for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2))
    ]
    assert metrics["largest_deviation_of_a_label"] == pytest.approx(max(deviations), abs=1e-6)


@pytest.mark.usefixtures("repository")
def test_a_label_with_one_row_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"(?s)label 'postive': 1 row.*postive0.*rare_labels: remove"):
        run(singles(a=10, b=10, postive=1))
    assert not Path("data/split").exists()


@pytest.mark.usefixtures("repository")
def test_rows_that_say_the_same_are_one_group() -> None:
    rows = [*singles(a=10, b=10), ("c0", "c", "c0"), ("c1", "c", "c0"), ("c2", "c", "c0")]
    with pytest.raises(InputError, match=r"label 'c': 3 row"):
        run(rows)


@pytest.mark.usefixtures("repository")
def test_rare_labels_are_removed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    change_params("rare_labels: error", "rare_labels: remove")
    out, metrics = run([*singles(a=10, b=10, c=2), ("n", None, "n")])
    assert out["removed"].rows() == [
        ("n", "no_label", "text n", None),
        ("c0", "rare_label", "text c0", None),
        ("c1", "rare_label", "text c1", None),
    ]
    assert metrics["removed"] == {"no_label": 1, "rare_label": 2}
    assert (metrics["rows_in"], metrics["rows_out"]) == (23, 20)
    assert "2 row(s) removed: rare_label" in capsys.readouterr().err


@pytest.mark.usefixtures("repository")
def test_small_labels_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, metrics = run(singles(a=200, b=200, small=3))
    assert metrics["forced_labels"] == {"small": 2}
    assert "label 'small' is small" in capsys.readouterr().err


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("rows", [[], singles(a=20), [("n", None, "n")]])
def test_fewer_than_two_labels_are_an_error(rows: list[Row]) -> None:
    with pytest.raises(InputError, match="at least two labels"):
        run(rows)


@pytest.mark.usefixtures("repository")
def test_fractions_must_sum_to_one() -> None:
    change_params("train_fraction: 0.7", "train_fraction: 0.8")
    with pytest.raises(InputError, match=r"`split`.*sum to 1, and sum to 1\.1"):
        run(singles(a=10, b=10))


@pytest.mark.usefixtures("repository")
def test_a_missing_input_leaves_no_output() -> None:
    with pytest.raises(FileNotFoundError):
        split.main()
    assert not Path("data/split").exists()
