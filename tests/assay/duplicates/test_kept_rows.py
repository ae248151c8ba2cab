from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.duplicates.kept_rows import find_duplicates
from assay.duplicates.near_duplicates import NearDuplicateParams
from tests.own_cases import read_cases

CASES = read_cases(__file__)

NEAR = NearDuplicateParams(shingle_size=5, permutations=128, min_jaccard=0.8)
LONG = "I have used this kettle every single day for about six months now and I would {} it to all of my friends"
Rows = list[tuple[str, str, str | None]]


def found(rows: Rows, near: NearDuplicateParams | None = NEAR, on_conflict: str = "keep") -> pl.DataFrame:
    """What becomes of rows of id, text and label; an id that begins with `held` is of a test set of the data."""
    table = pl.DataFrame(rows, schema=dict.fromkeys(("id", "text", "label"), pl.String), orient="row")
    table = table.with_columns(held_out=pl.col("id").str.starts_with("held"))
    return table.select("id").hstack(find_duplicates(table, near, on_conflict, (1, "test")))


DIFFERENT = CASES["different"]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_differs_in_meaning_stays_in_one_group(one: str, other: str) -> None:
    out = found([("a", one, "x"), ("b", other, "x")], NEAR.model_copy(update={"min_jaccard": 0.6}))
    assert (out["kept_id"].to_list(), out["group"].n_unique()) == (["a", "b"], 1)


def test_what_says_the_same_goes() -> None:
    same = ["Don't you?? Good phone (really), well-made :)", "don\u2019t you? good phone (really) - well-made :))"]
    same += ["DON'T YOU? Good phone: (really) - well-made :)"]
    assert found([(str(number), text, "x") for number, text in enumerate(same)])["rule"].null_count() == 1


def test_rows_of_other_labels_stay_and_are_pointed_out() -> None:
    rows: Rows = [("a", "the card is lost", "x"), ("b", "The card is lost!", "y"), ("c", "the card is lost", "x")]
    out = found([*rows, ("d", "the card is lost", None), ("e", "where is it", "x"), ("f", "where is it", "x")])
    assert out.filter(pl.col("rule") == "exact_duplicate")["id"].str.replace("a", "c").str.replace(
        "f", "e"
    ).to_list() == ["c", "e"]
    assert out["labels_differ"].to_list() == [True] * 4 + [False] * 2
    assert out["group"].n_unique() == 2


@pytest.mark.parametrize(
    ("labels", "kept"), [("xxy", "x"), ("xyy", "y"), ("xy", "xy"), ("xxyyz", "xyz"), ("xxxyz", "x")]
)
def test_the_majority_of_identical_texts_stays_on_request(labels: str, kept: str) -> None:
    for near in (NEAR, None):
        out = found([(str(number), "the card is lost", label) for number, label in enumerate(labels)], near, "majority")
        stay = out.with_columns(label=pl.Series([*labels])).filter(pl.col("rule").is_null())
        assert "".join(sorted(stay["label"])) == kept
        minority = out.filter(pl.col("rule") == "conflicting_label")
        assert minority.height == sum(label not in kept for label in labels)
        assert set(minority["kept_id"]) <= set(stay["id"])


def test_a_chain_removes_nothing_unlike_the_row_that_stays() -> None:
    chain = [f"abcdefghij{'xyz' * 4}" + "".join(chr(0x100 + i) for i in range(2 * step)) for step in range(12)]
    out = found([(str(number), text, "x") for number, text in enumerate(chain)])
    assert out["group"].n_unique() == 1
    texts = dict(zip(out["id"], chain, strict=True))
    for id_, kept in out.select("id", "kept_id").iter_rows():
        one, other = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (texts[id_], texts[kept]))
        assert len(one & other) / len(one | other) >= 0.8
    assert 1 < out["rule"].null_count() < len(chain)


def test_a_test_set_of_the_data_stays_whole() -> None:
    rows: Rows = [
        ("a", "the card is lost", "x"),
        ("held1", "the card is lost", "x"),
        ("held2", "the card is lost", "y"),
    ]
    out = found([*rows, ("b", "The card is lost", "x")], on_conflict="majority")
    assert set(out.filter(pl.col("rule").is_null())["id"]) > {"held1", "held2"}
    assert out["rule"].null_count() == 3


def test_without_near_duplicates_only_identical_texts_go() -> None:
    out = found(
        [("a", "the card", "x"), ("b", "The card!", "x"), ("c", "the card", "x"), ("d", "the cards", "x")], None
    )
    assert out["rule"].drop_nulls().to_list() == ["exact_duplicate"]
    assert out["group"].null_count() == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "!", "?", " not"]), st.integers(0, 2), st.sampled_from("xy"))), st.randoms()
)
def test_the_order_of_the_rows_does_not_matter(drawn: list[tuple[str, int, str]], random: Random) -> None:
    bases = ["the card is lost and nobody knows", "the card is lost and nobody knew it", "a parcel came"]
    rows: Rows = [(str(number), bases[base] + end, label) for number, (end, base, label) in enumerate(drawn)]
    out = found(rows)
    assert out.equals(found(random.sample(rows, len(rows))).sort(pl.col("id").cast(pl.Int64)))
    says = dict(zip(out["id"], [(end in ("", "!") or end, label) for end, _, label in drawn], strict=True))
    kept = dict(out.drop_nulls("kept_id").select("id", "kept_id").iter_rows())
    assert all(says[id_] == says[stays] and kept[stays] == stays for id_, stays in kept.items())
