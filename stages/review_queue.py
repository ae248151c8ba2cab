"""Which rows are most worth a person's look, each with why, a suggested label and its neighbours.

Decides the order in which people look, and nothing else: `make review` shows the queue, and what they decide goes to
`data/corrections.csv`.

Reads the train and validation rows of `data/split/`, `data/label_errors/scores.parquet`,
`data/annotation_qa/disagreement.parquet`, `data/clean/ratings.parquet`, `data/embeddings/embeddings.parquet` and
`models/finetuned/<approach>/`. Writes `data/review/queue.csv`: `rank`, `id`, `split`, `source`, `text`, `label`,
`suggested_label`, `reasons`, `score` and `neighbours` (JSON: `id`, `label`, `text`, `cosine` of the train rows closest
to it by the embeddings).

1. Three lists, each from the most suspicious row on: label errors by `label_quality` (train rows); what the model gets
   wrong on validation, by its confidence, from `min_confidence` on; rows by how far their annotators disagree (both).
2. They are fused by reciprocal rank (Cormack, Clarke & Büttcher 2009, https://doi.org/10.1145/1571941.1572114): `score`
   is the sum of 1 / (60 + rank) over the lists that a row is in. So the lists alternate, a row in two of them comes
   early, and scores of different kinds need not be compared.
3. `suggested_label` is the label that the model gives most, or that most annotators give, if it is another than the
   row's; of two suggestions, that of the list in which the row stands higher. It never comes from `reference_label`,
   also not by way of the consensus, where it breaks ties: the queue is what a project without one would see.
4. No test row is in it, since corrections led by a model would bend the test towards that model; nor is a row that a
   person has `reviewed`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.classifiers.predict import predict
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.skipped import why_left_out
from assay.embeddings.table import EMBEDDINGS, embeddings_of

SPLITS = {name: Path(f"data/split/{name}.parquet") for name in ("train", "validation")}
SCORES = Path("data/label_errors/scores.parquet")
DISAGREEMENT = Path("data/annotation_qa/disagreement.parquet")
RATINGS = Path("data/clean/ratings.parquet")
MODELS = Path("models/finetuned")
OUTPUT = Path("data/review")
METRICS = Path("metrics/optional/review_queue.json")

RANK_CONSTANT = 60
"""Of reciprocal rank fusion, as its authors have it."""
REASONS = ("label_error", "confident_mistake", "disagreement")
"""The lists; of rows with the same score, those of an earlier list come first."""
COLUMNS = ("rank", "id", "split", "source", "text", "label", "suggested_label", "reasons", "score", "neighbours")
VOTES_SHOWN = 4
"""Labels that are named with the number of annotators who gave them."""


class ReviewQueueParams(Params):
    """The `review_queue` section of `params.yaml`."""

    approach: str = Field(min_length=1)
    rows: int = Field(ge=1, le=100_000)
    neighbours: int = Field(ge=0, le=50)
    min_confidence: float = Field(ge=0, le=1)
    batch_size: int = Field(ge=1, le=4096)


@dataclass(frozen=True)
class Neighbours:
    """The train rows closest to each row of the queue, the closest first; shape `(rows, neighbours)` each.

    `train_row` is -1 where there are no more.
    """

    train_row: NDArray[np.int64]
    cosine: NDArray[np.float32]


def percent(share: float) -> str:
    """A probability in words; what is not certain is not shown as certain."""
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def named(label: str, share: float | None = None) -> str:
    """A label in words, with its probability where that is known."""
    return f'"{label}"' if share is None else f'"{label}" {percent(share)}'


def label_error_list(scores: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The label errors among the rows, worst first.

    Args:
        scores: `scores.parquet` of `label_errors`.
        rows: those that may be in the queue.

    Returns:
        `id`, `suggested_label`, `reason` in words.
    """
    found = (
        scores.filter("is_label_error", pl.col("label_quality").is_not_null())
        .join(rows.select("id"), on="id", how="semi")
        .sort("label_quality", "id")
    )
    suggested = []
    reasons = []
    for row in found.iter_rows(named=True):
        # A row that a person relabelled since would have another label here.
        other = row["suggested_label"] if row["suggested_label"] != row["label"] else None
        said = [named(label, row.get(f"probability_{label}")) for label in (row["label"], other) if label is not None]
        suggested.append(other)
        reasons.append("label error: the model gives " + " and ".join(said))
    return _list(found["id"], suggested, reasons)


def mistake_list(
    validation: pl.DataFrame, probabilities: NDArray[np.float64], labels: list[str], min_confidence: float, model: str
) -> pl.DataFrame:
    """What the model is sure of and the label denies, the surest first.

    Args:
        validation: `id`, `label`; `n` rows.
        probabilities: of the model, shape `(n, k)`.
        labels: of the columns, shape `(k,)`.
        min_confidence: the least probability of its label.
        model: its name.

    Returns:
        `id`, `suggested_label`, `reason` in words.
    """
    best = probabilities.argmax(axis=1)
    given = [labels.index(label) if label in labels else None for label in validation["label"]]
    found = (
        validation.select("id", "label")
        .with_columns(
            predicted=pl.Series([labels[column] for column in best], dtype=pl.String),
            confidence=pl.Series(probabilities.max(axis=1)),
            of_label=pl.Series(
                [None if column is None else float(probabilities[row, column]) for row, column in enumerate(given)],
                dtype=pl.Float64,
            ),
        )
        .filter(pl.col("predicted") != pl.col("label"), pl.col("confidence") >= min_confidence)
        .sort(pl.col("confidence").neg(), "id")
    )
    reasons = [
        f"confident mistake on validation: {model} gives {named(predicted, sure)} and {named(label, rest)}"
        for predicted, sure, label, rest in found.select("predicted", "confidence", "label", "of_label").iter_rows()
    ]
    return _list(found["id"], found["predicted"].to_list(), reasons)


def disagreement_list(disagreement: pl.DataFrame, ratings: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose annotators disagree, most disputed first.

    Args:
        disagreement: `id`, `disagreement`.
        ratings: `id`, `label`, a row per rating.
        rows: `id`, `label` of those that may be in the queue.

    Returns:
        `id`, `suggested_label` (what most say, null where two labels tie or it is the row's own), `reason` in words.
    """
    found = (
        disagreement.select("id", "disagreement")
        .filter(pl.col("disagreement") > 0)
        .join(rows.select("id", "label"), on="id", how="inner")
        .sort(pl.col("disagreement").neg(), "id")
    )
    votes: dict[str, list[tuple[str, int]]] = {}
    counted = ratings.drop_nulls("label").join(found, on="id", how="semi").group_by("id", "label").len("votes")
    for row_id, label, count in counted.sort("id", "votes", "label", descending=[False, True, False]).iter_rows():
        votes.setdefault(row_id, []).append((label, count))
    suggested = []
    reasons = []
    for row_id, label in found.select("id", "label").iter_rows():
        cast = votes.get(row_id, [])
        leads = len(cast) == 1 or (len(cast) > 1 and cast[0][1] > cast[1][1])
        suggested.append(cast[0][0] if leads and cast[0][0] != label else None)
        shown = [f"{count} {one}" for one, count in cast[:VOTES_SHOWN]]
        more = sum(count for _, count in cast[VOTES_SHOWN:])
        reasons.append("annotators disagree: " + ", ".join([*shown, *([f"{more} others"] if more else [])]))
    return _list(found["id"], suggested, reasons)


def _list(ids: pl.Series, suggested: list[str | None], reasons: list[str]) -> pl.DataFrame:
    """One of the lists to be fused."""
    return pl.DataFrame(
        {"id": ids, "suggested_label": suggested, "reason": reasons},
        schema={"id": pl.String, "suggested_label": pl.String, "reason": pl.String},
    )


def fused(lists: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows of all lists by reciprocal rank, best first.

    Args:
        lists: `id`, `suggested_label`, `reason` by the name of the list; an earlier list wins a tie.

    Returns:
        `id`, `score`, `suggested_label`, `reasons` in words, `kinds` (the names of the lists).
    """
    ranked = pl.concat(
        [
            one.with_columns(pl.lit(kind).alias("kind"), pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("place"))
            for kind, one in lists.items()
        ]
    ).with_row_index("order")
    return (
        ranked.sort("place", "order")
        .group_by("id", maintain_order=True)
        .agg(
            score=(1 / (RANK_CONSTANT + pl.col("place"))).sum(),
            suggested_label=pl.col("suggested_label").drop_nulls().first(),
            reasons=pl.col("reason").str.join("; "),
            kinds="kind",
        )
        # The sort keeps the order of place and list among equals.
        .sort(pl.col("score").neg(), maintain_order=True)
    )


def nearest(queue: NDArray[np.float32], train: NDArray[np.float32], own: NDArray[np.int64], count: int) -> Neighbours:
    """The train rows closest to each row by cosine, itself left out.

    Args:
        queue: embeddings of the queue's rows, shape `(rows, d)`.
        train: of the train rows, shape `(n, d)`.
        own: the place of each row of the queue among the train rows, -1 where it is none of them, shape `(rows,)`.
        count: how many; fewer where there are no more.
    """
    rows = np.full((len(queue), count), -1, dtype=np.int64)
    cosines = np.zeros((len(queue), count), dtype=np.float32)
    lengths = np.maximum(np.linalg.norm(train, axis=1), np.finfo(np.float32).tiny)
    for number, vector in enumerate(queue):
        cosine = train @ vector / (lengths * max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny))
        if own[number] >= 0:
            cosine[own[number]] = -np.inf
        closest = np.argsort(-cosine, kind="stable")[: min(count, len(train) - (own[number] >= 0))]
        rows[number, : len(closest)] = closest
        cosines[number, : len(closest)] = cosine[closest]
    return Neighbours(rows, cosines)


def neighbour_json(neighbours: Neighbours, train: pl.DataFrame) -> list[str]:
    """The neighbours of each row of the queue as JSON.

    Args:
        neighbours: rows of `train`.
        train: `id`, `label`, `text`.
    """
    rows = train.select("id", "label", "text").rows(named=True)
    return [
        json.dumps(
            [
                rows[place] | {"cosine": round(float(cosine), 3)}
                for place, cosine in zip(places, cosines, strict=True)
                if place >= 0
            ],
            ensure_ascii=False,
        )
        for places, cosines in zip(neighbours.train_row.tolist(), neighbours.cosine.tolist(), strict=True)
    ]


def main() -> None:
    """Make the queue."""
    params = load_params("review_queue", ReviewQueueParams)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    columns = ["id", "source", "text", "label", "reviewed"]
    splits = {name: pl.read_parquet(path, columns=columns) for name, path in SPLITS.items()}
    train = splits["train"]
    rows = pl.concat(part.with_columns(split=pl.lit(name)) for name, part in splits.items())
    open_rows = rows.filter(~pl.col("reviewed"))
    validation = open_rows.filter(pl.col("split") == "validation")

    model = MODELS / params.approach
    if not model.is_dir():
        raise InputError(
            f"{model}: no such model; set `review_queue.approach` of params.yaml to one of `approaches`, and run"
            f" `dvc repro finetune@{params.approach}`"
        )
    if reason := why_left_out(model):
        raise InputError(
            f"{model}: left out on this machine: {reason}; set"
            " `review_queue.approach` of params.yaml to another of `approaches`"
        )
    mistakes = _list(pl.Series("id", [], pl.String), [], [])
    if validation.height:
        texts = validation["text"].to_list()
        said = predict(model, texts, params.batch_size, device, "review_queue")
        mistakes = mistake_list(validation, said.probabilities, said.labels, params.min_confidence, params.approach)
    # With `keep`, nobody wants to hear of them.
    is_wanted = load_params("label_errors.action", str) != "keep"
    lists = {
        "label_error": label_error_list(pl.read_parquet(SCORES).filter(pl.lit(is_wanted)), open_rows),
        "confident_mistake": mistakes,
        "disagreement": disagreement_list(pl.read_parquet(DISAGREEMENT), pl.read_parquet(RATINGS), open_rows),
    }
    queue = fused(lists).head(params.rows).join(rows, on="id", how="left", maintain_order="left")

    embeddings = pl.read_parquet(EMBEDDINGS)
    place = train.select("id").with_row_index("place")
    own = queue.join(place, on="id", how="left", maintain_order="left")["place"].cast(pl.Int64).fill_null(-1)
    neighbours = nearest(
        embeddings_of(queue["id"], embeddings, OUTPUT),
        embeddings_of(train["id"], embeddings, SPLITS["train"]),
        own.to_numpy(),
        params.neighbours,
    )
    table = queue.with_columns(
        pl.int_range(1, pl.len() + 1).alias("rank"),
        pl.col("score").round(6),
        pl.Series("neighbours", neighbour_json(neighbours, train), dtype=pl.String),
    ).select(COLUMNS)
    with output_folder(OUTPUT) as folder:
        table.write_csv(folder / "queue.csv")
    by_reason = queue.explode("kinds")["kinds"].value_counts() if queue.height else None
    counts = dict(by_reason.iter_rows()) if by_reason is not None else {}
    write_json(
        METRICS,
        {
            "rows": table.height,
            "rows_with_suggested_label": table.height - table["suggested_label"].null_count(),
            "rows_by_reason": {name: counts.get(name, 0) for name in REASONS},
            "candidates_by_reason": {name: one.height for name, one in lists.items()},
            "rows_by_split": {name: table.filter(pl.col("split") == name).height for name in SPLITS},
            "rows_already_reviewed": rows.height - open_rows.height,
        },
    )
    print(f"review_queue: {table.height} rows in {OUTPUT / 'queue.csv'}; `make review` shows them")


if __name__ == "__main__":
    run_stage(main)
