"""CROWDLAB weighs annotators by how far they agree, comes out the same again, and says when it cannot be asked."""

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from assay.annotation.crowdlab import (
    CrowdlabParams,
    CrowdOpinion,
    crowd_opinion,
    crowdlab,
    without_ties,
)

PARAMS = {"folds": 3, "C": 1.0, "max_cells": 100_000, "max_annotators": 100}


def crowd(rows: int, good: int, bad: int, seed: int = 1) -> tuple[pl.DataFrame, pl.DataFrame, NDArray[np.float32]]:
    """Records, ratings and features; good annotators err in one rating of ten, bad ones guess."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, rows)
    features = np.stack([truth * 2.0 - 1, np.zeros(rows)], axis=1) + random.normal(size=(rows, 2))
    names = ["n", "p"]
    ratings = pl.DataFrame(
        [
            {"id": f"{row:03}", "annotator": f"{kind}{who}", "label": names[label]}
            for kind, number in (("good", good), ("bad", bad))
            for who in range(number)
            for row in range(rows)
            for label in [truth[row] if kind == "good" and random.random() < 0.9 else random.integers(0, 2)]
        ]
    )
    majority = ratings.group_by("id").agg(pl.col("label").mode().sort().first().alias("consensus_label"))
    records = pl.DataFrame(
        {
            "id": [f"{row:03}" for row in range(rows)],
            "reference_label": [names[label] for label in truth],
            "split_group": [f"{row // 2:03}" for row in range(rows)],
        }
    ).join(majority, on="id", how="left", maintain_order="left")
    return records, ratings, features.astype(np.float32)


def ask(records: pl.DataFrame, ratings: pl.DataFrame, features: NDArray[np.float32], **changes: int) -> CrowdOpinion:
    rows = {id_: row for row, id_ in enumerate(records["id"])}
    params = CrowdlabParams.model_validate(PARAMS | changes)
    return crowd_opinion(records, ratings, lambda ids: features[[rows[id_] for id_ in ids]], params, seed=7)


def test_good_annotators_have_the_higher_quality_and_the_rows_their_label() -> None:
    opinion = ask(*crowd(200, 2, 3))
    quality = dict(opinion.annotators.rows())
    assert min(quality[f"good{i}"] for i in range(2)) > max(quality[f"bad{i}"] for i in range(3)) + 0.1
    agrees = opinion.metrics["agrees_with_reference"]
    records = crowd(200, 2, 3)[0]
    by_majority = (records["consensus_label"] == records["reference_label"]).mean()
    assert isinstance(agrees, float)
    assert isinstance(by_majority, float)
    assert agrees > by_majority
    assert opinion.rows["crowdlab_quality"].is_between(0, 1).all()
    assert opinion.messages == ()


def test_the_reference_has_no_say() -> None:
    records, ratings, features = crowd(60, 2, 2)
    turned = records.with_columns(reference_label=pl.lit("n"))
    assert ask(records, ratings, features).rows.equals(ask(turned, ratings, features).rows)


def test_neither_the_order_of_ratings_nor_numpys_random_state_matters() -> None:
    records, ratings, features = crowd(60, 2, 2)
    np.random.seed(5)
    first = ask(records, ratings, features)
    np.random.seed(6)
    other = ask(records, ratings.sample(fraction=1, shuffle=True, seed=2), features)
    assert first.rows.equals(other.rows)
    assert first.annotators.equals(other.annotators)
    assert first.metrics == other.metrics


def test_no_lots_are_drawn_between_equals() -> None:
    # Two annotators who never agree and a model that cannot tell: all is equal but the order of the labels.
    rows, annotators = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    labels = np.tile([0, 1, 1, 0], 20)
    same = np.full((40, 2), 0.5)
    assert crowdlab(rows, annotators, labels, without_ties(same, labels))[0].tolist() == [0] * 40
    more = np.append(labels, 1)
    told_apart = without_ties(same, more)
    assert told_apart[:, 1].min() > told_apart[:, 0].max()
    assert told_apart == pytest.approx(same, abs=1e-8)


def test_annotators_with_the_most_ratings_are_used_where_all_do_not_fit() -> None:
    records, ratings, features = crowd(30, 3, 1)
    fewer = ratings.filter((pl.col("annotator") != "bad0") | (pl.col("id") < "005"))
    opinion = ask(records, fewer, features, max_cells=100)
    assert opinion.rows.equals(ask(records, fewer, features, max_annotators=3).rows)
    assert opinion.annotators["annotator"].to_list() == ["good0", "good1", "good2"]
    assert (opinion.metrics["annotators"], opinion.metrics["annotators_left_out"]) == (3, 1)
    assert "run on the 90 of 95 ratings" in opinion.messages[0]
    assert "max_cells: 100" in opinion.messages[0]


@pytest.mark.parametrize(
    ("labels", "annotators", "reason"),
    [
        ("ppp", "abc", "all ratings give the same label"),
        ("pnp", "abc", "no row has ratings from two of these annotators"),
    ],
)
def test_it_says_why_it_was_not_asked(labels: str, annotators: str, reason: str) -> None:
    names = ["1", "2", "3"]
    records = pl.DataFrame(
        {"id": names, "consensus_label": list(labels), "reference_label": [None] * 3, "split_group": names}
    )
    ratings = pl.DataFrame({"id": names, "annotator": list(annotators), "label": list(labels)})
    opinion = ask(records, ratings, np.zeros((3, 2), dtype=np.float32))
    assert (opinion.rows.height, opinion.annotators.height, opinion.metrics) == (0, 0, {})
    assert reason in opinion.messages[-1]


def test_too_few_rows_for_a_model() -> None:
    records, ratings, features = crowd(60, 2, 1)
    together = records.with_columns(split_group=pl.lit("all"))
    assert "too few rows" in ask(together, ratings, features).messages[-1]


def test_an_annotator_with_one_rating_of_a_row_of_their_own() -> None:
    records, ratings, features = crowd(60, 2, 1)
    alone = ratings.filter(pl.col("id") != "003").vstack(
        pl.DataFrame({"id": ["003"], "annotator": ["lonely"], "label": ["p"]})
    )
    opinion = ask(records, alone, features)
    assert dict(opinion.annotators.rows())["lonely"] is None
    assert opinion.rows.filter(pl.col("id") == "003")["crowdlab_label"].is_in(["n", "p"]).all()
    assert opinion.rows.height == 60


def test_a_label_with_rows_in_one_group_is_judged_by_the_shares_of_labels() -> None:
    records, ratings, features = crowd(60, 2, 1)
    rare = ratings.with_columns(
        label=pl.when(pl.col("id").is_in(["004", "005"])).then(pl.lit("rare")).otherwise(pl.col("label"))
    )
    known = records.with_columns(
        consensus_label=pl.when(pl.col("id").is_in(["004", "005"]))
        .then(pl.lit("rare"))
        .otherwise(pl.col("consensus_label"))
    )
    opinion = ask(known, rare, features)
    assert opinion.metrics["rows_not_judged_by_model"] == 2
    assert opinion.rows.filter(pl.col("id").is_in(["004", "005"]))["crowdlab_label"].to_list() == ["rare", "rare"]
