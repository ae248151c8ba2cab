"""Votes, the majority of all and of the others, and how far a row is disputed."""

import math
from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.annotation.consensus import compare_with_others, count_votes, disagreement, disputed_rows, find_majority


def ratings(**labels: str) -> pl.DataFrame:
    """`row="ppn"`: the labels that annotators 0, 1, 2 gave a row, a letter each."""
    return pl.DataFrame(
        [
            {"id": id_, "annotator": str(i), "label": letter}
            for id_, letters in labels.items()
            for i, letter in enumerate(letters)
        ],
        schema={"id": pl.String, "annotator": pl.String, "label": pl.String},
    )


def winner(labels: list[str], frequency: Counter[str]) -> str:
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], -frequency[label], label))


tables = st.dictionaries(
    st.sampled_from(["r1", "r2", "r3", "r4", "r5"]), st.text(alphabet="abc", min_size=1, max_size=7), min_size=1
)


def test_majority_and_its_share() -> None:
    assert find_majority(count_votes(ratings(b="nppp", a="ppn"))).rows() == [("a", "p", 2 / 3, 3), ("b", "p", 0.75, 4)]


def test_a_tie_goes_to_the_more_frequent_label_then_to_the_first_in_the_alphabet() -> None:
    some = ratings(tied="np", other="pp", three="opn", equal="xy")
    votes = count_votes(some)
    # p is in 4 ratings, n in 2; x and y in one each.
    assert dict(find_majority(votes).select("id", "consensus_label").rows()) == {
        "tied": "p",
        "other": "p",
        "three": "p",
        "equal": "x",
    }


@given(tables)
def test_majority_of_all_and_of_the_others_equal_counting_by_hand(table: dict[str, str]) -> None:
    votes = count_votes(ratings(**table))
    frequency = Counter("".join(table.values()))
    assert dict(find_majority(votes).select("id", "consensus_label").rows()) == {
        id_: winner(list(labels), frequency) for id_, labels in table.items()
    }
    expected = {}
    for id_, labels in table.items():
        for i, label in enumerate(labels):
            others = [*labels[:i], *labels[i + 1 :]]
            if others:
                expected[id_, label] = winner(others, frequency) == label
    assert {(id_, label): agrees for id_, label, agrees in compare_with_others(votes).rows()} == expected


@given(tables)
def test_disagreement_equals_the_entropy_by_hand(table: dict[str, str]) -> None:
    labels = len(set("".join(table.values())))
    expected = {}
    for id_, given_labels in table.items():
        shares = [count / len(given_labels) for count in Counter(given_labels).values()]
        entropy = -sum(share * math.log(share) for share in shares)
        if len(given_labels) > 1:
            expected[id_] = entropy / math.log(labels) if labels > 1 else 0.0
    found = dict(disagreement(count_votes(ratings(**table))).select("id", "disagreement").rows())
    assert found == pytest.approx(expected, abs=1e-12)
    assert all(0 <= value <= 1 for value in found.values())


def test_disputed_rows_come_with_their_texts_the_most_disputed_first() -> None:
    votes = count_votes(ratings(calm="aaa", b="ab", a="ab", more="aabb", single="a"))
    names = ["a", "b", "calm", "more", "single", "unrated"]
    records = pl.DataFrame(
        {"id": names, "text": [f"text {name}" for name in names], "label": ["b"] * 6, "source": ["s"] * 6}
    ).join(find_majority(votes), on="id", how="left")
    table = disputed_rows(records, votes)
    assert table.columns == [
        *("id", "text", "label", "consensus_label", "disagreement", "ratings", "ratings_a", "ratings_b", "source")
    ]
    assert table.rows() == [
        ("more", "text more", "b", "a", 1.0, 4, 2, 2, "s"),
        ("a", "text a", "b", "a", 1.0, 2, 1, 1, "s"),
        ("b", "text b", "b", "a", 1.0, 2, 1, 1, "s"),
        ("calm", "text calm", "b", "a", 0.0, 3, 3, 0, "s"),
    ]


def test_no_ratings_give_empty_tables_of_the_right_types() -> None:
    votes = count_votes(ratings())
    assert find_majority(votes).schema == {
        "id": pl.String,
        "consensus_label": pl.String,
        "annotator_agreement": pl.Float64,
        "ratings": pl.Int64,
    }
    assert disagreement(votes).schema == {"id": pl.String, "disagreement": pl.Float64, "ratings": pl.Int64}
    assert compare_with_others(votes).is_empty()
