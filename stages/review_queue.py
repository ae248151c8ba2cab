"""Which rows are most worth a person's look, each with why, a suggested label and its neighbours.

Decides the order in which people look, and nothing else: `make review` shows the queue, and what they decide goes to
`data/corrections.csv`. Writes `data/review/queue.csv`, whose columns docs/review.md describes: label errors of train
rows, mistakes of a model on validation, rows whose annotators disagree, near-duplicates with different labels, and rows
that wait for a label, fused by reciprocal rank (Cormack, Clarke & Büttcher 2009,
https://doi.org/10.1145/1571941.1572114).

A suggestion never comes from `reference_label`, also not by way of the consensus, where it breaks ties: of train and
validation rows the queue is what a project without one would see. A row that a person has `reviewed` is not in
it, nor one without a label that belongs to a validation or test row, since `split` would remove it once it has one.

Test rows are in it without a suggestion or neighbours, and with the label that scores them (`field`): at most
`test_rows` of those that every approach contradicts, since corrections led by one would bend the test towards it. They
still favour what models have in common: docs/protocol.md says what that does to scores.
"""

import argparse
import sys
from pathlib import Path

import polars as pl
from pydantic import Field

from assay.classifiers.predict import predict
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import Filtered
from assay.core.results import write_metrics
from assay.core.skipped import why_left_out
from assay.duplicates.kept_rows import meaning_marks
from assay.embeddings.nearest import nearest_reference, nearest_rows
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.human_review import queue as review
from assay.label_errors.contradicted_rows import list_contradicted, read_test_predictions
from assay.splitting.target_labels import read_test_rows

SPLITS = {name: Path(f"data/split/{name}.parquet") for name in ("train", "validation")}
TEST = Path("data/split/test.parquet")
UNLABELLED = Path("data/corrected/unlabelled.parquet")
SCORES = Path("data/label_errors/scores.parquet")
DISAGREEMENT = Path("data/annotation_qa/disagreement.parquet")
RATINGS = Path("data/clean/ratings.parquet")
DECIDED = Path("data/corrected/changed.parquet")
MODELS = Path("models/finetuned")
OUTPUT = Path("data/review")
METRICS = Path("metrics/optional/review_queue.json")
COLUMNS = (
    "rank",
    "id",
    "split",
    "source",
    "text",
    "label",
    "suggested_label",
    "reasons",
    "score",
    "neighbours",
    "field",
)

TEST_REASON = "suspected test error: the models contradict its label; look at the text alone"


class ReviewQueueParams(Params):
    """The `review_queue` section of `params.yaml`."""

    rows: int = Field(ge=1, le=100_000)
    test_rows: int = Field(ge=0, le=100_000)
    neighbours: int = Field(ge=0, le=50)
    min_confidence: float = Field(ge=0, le=1)
    batch_size: int = Field(ge=1, le=4096)


def read_model_folder(approach: str) -> Path:
    """The folder of a model. Raises `InputError`: there is none, or the approach was skipped on this machine."""
    model = MODELS / approach
    if not model.is_dir():
        raise InputError(
            f"{model}: no such model; set `optional.review_queue` of params.yaml to one of `approaches`, and run"
            f" `dvc repro finetune@{approach}`"
        )
    if reason := why_left_out(model):
        raise InputError(
            f"{model}: skipped on this machine: {reason}; set `optional.review_queue` of params.yaml to another of"
            " `approaches`"
        )
    return model


def read_pool(embeddings: pl.DataFrame) -> Filtered:
    """The rows that wait for a label; removed are those that belong to a held-out row, by their group or similarity."""
    pool, group = pl.read_parquet(UNLABELLED), load_params("split.group_column", object)
    columns = ["id", *(name for name in pool.columns if name == group)]
    held_out = pl.concat(pl.read_parquet(path, columns=columns) for path in (SPLITS["validation"], TEST))
    vectors = (embeddings_of(ids, embeddings, UNLABELLED) for ids in (pool["id"], held_out["id"]))
    closest, _ = nearest_reference(*vectors)
    kept = pool.filter(closest < load_params("semantic_duplicates.min_cosine", float))
    for name in columns[1:]:
        kept = kept.join(held_out.filter(pl.col(name) != ""), on=name, how="anti", maintain_order="left")
    return Filtered(kept, pool.join(kept, on="id", how="anti"))


def add_neighbours(
    queue: pl.DataFrame, train: pl.DataFrame, embeddings: pl.DataFrame, count: int, device: Device
) -> pl.DataFrame:
    """The queue with `neighbours`: the train rows closest to each row, as JSON; of a test row none."""
    place = train.select("id").with_row_index("place")
    own = queue.join(place, on="id", how="left", maintain_order="left")["place"].cast(pl.Int64).fill_null(-1)
    found = nearest_rows(
        embeddings_of(queue["id"], embeddings, OUTPUT),
        embeddings_of(train["id"], embeddings, SPLITS["train"]),
        own.to_numpy(),
        count,
        device.device,
    )
    written = pl.Series("neighbours", review.write_neighbours(found, train), dtype=pl.String)
    return queue.with_columns(neighbours=pl.when(pl.col("split") == "test").then(pl.lit("[]")).otherwise(written))


def read_contradicted(approaches: list[str]) -> pl.DataFrame:
    """Test rows that every approach contradicts and no person decided, the least credible label first.

    `label` is the one that scores the row, and `field` the column in which it stands.
    """
    test = read_test_rows()
    found = list_contradicted(read_test_predictions(approaches, test))
    if found is None:
        print("review_queue: no test rows: that takes two approaches whose answer depends on the text")
        found = test.clear()
    is_given = pl.col("reference_label").is_null()
    field = pl.when(is_given).then(pl.lit("label")).otherwise(pl.lit("reference_label"))
    known = test.with_columns(field=field, label="target_label", split=pl.lit("test"))
    ids = found.select("id").join(pl.read_parquet(DECIDED), on="id", how="anti", maintain_order="left")
    return ids.join(known, on="id", how="left", maintain_order="left")


def main() -> None:
    """Make the queue, with the mistakes of the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.review_queue", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as full")
    approach = parser.parse_args().approach
    params = load_params("review_queue", ReviewQueueParams)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    columns = ["id", "source", "text", "label", "reviewed", "near_duplicate_group"]
    splits = {name: pl.read_parquet(path, columns=columns) for name, path in SPLITS.items()}
    rows = pl.concat(part.with_columns(split=pl.lit(name), field=pl.lit("label")) for name, part in splits.items())
    open_rows = rows.filter(~pl.col("reviewed"))
    validation = open_rows.filter(pl.col("split") == "validation")
    model = read_model_folder(approach)
    mistakes = review.build_list(pl.Series("id", [], pl.String), [], [])
    if validation.height:
        said = predict(model, validation["text"].to_list(), params.batch_size, device, "review_queue")
        mistakes = review.list_mistakes(validation, said.probabilities, said.labels, params.min_confidence, approach)
    denied = read_contradicted(load_params("approaches", list[str]))
    shown = denied["id"].head(params.test_rows)
    # With `keep`, nobody wants to hear of them.
    is_wanted = load_params("label_errors.action", str) != "keep"
    # Of rows with the same score, those of an earlier list come first.
    lists = {
        "label_error": review.list_label_errors(pl.read_parquet(SCORES).filter(pl.lit(is_wanted)), open_rows),
        "confident_mistake": mistakes,
        "disagreement": review.list_disagreements(pl.read_parquet(DISAGREEMENT), pl.read_parquet(RATINGS), open_rows),
        "conflict": review.list_conflicts(open_rows.with_columns(meaning_marks(open_rows["text"]))),
        "suspected_test_error": review.build_list(shown, [None] * len(shown), [TEST_REASON] * len(shown)),
    }
    rows = pl.concat([rows, denied.select(rows.columns)])
    embeddings = pl.read_parquet(EMBEDDINGS)
    pool, counted = read_pool(embeddings), dict[str, object]()
    if pool.kept.height:
        said = predict(model, pool.kept["text"].to_list(), params.batch_size, device, "review_queue")
        lists["unlabelled"] = review.list_unlabelled(pool.kept, said.probabilities, said.labels, approach)
        waiting = pool.kept.with_columns(split=pl.lit("unlabelled"), field=pl.lit("label"))
        rows = pl.concat([rows, waiting], how="diagonal").select(rows.columns)
    if pool.kept.height or pool.removed.height:
        counted["unlabelled"] = {"ranked": pool.kept.height, "belong_to_held_out_rows": pool.removed.height}
        left_out = f"{pool.removed.height} more belong to validation or test rows and are left out"
        print(f"review_queue: {pool.kept.height} rows wait for a label; {left_out}", file=sys.stderr)
    queue = review.fuse_lists(lists).head(params.rows).join(rows, on="id", how="left", maintain_order="left")
    table = add_neighbours(queue, splits["train"], embeddings, params.neighbours, device)
    table = table.with_columns(pl.col("score").round(6), rank=pl.int_range(1, pl.len() + 1)).select(COLUMNS)
    with output_folder(OUTPUT) as folder:
        table.write_csv(folder / "queue.csv")
    write_metrics(
        METRICS,
        {
            "rows": table.height,
            "rows_with_suggested_label": table.height - table["suggested_label"].null_count(),
            "contradicted_test_rows": denied.height,
            "rows_by_reason": {name: int(queue["kinds"].list.contains(name).sum()) for name in lists},
            **counted,
        },
        "rows",
        "rows_with_suggested_label",
    )


if __name__ == "__main__":
    run_stage(main)
