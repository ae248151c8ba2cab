"""How far the annotators agree, what most of them say, and how far one of them can be trusted.

Decides: the consensus label of each row, and whether the annotators agree enough to go on (`min_krippendorff_alpha`).
Changes no label and removes no row.

Reads `data/semantic_duplicates/records.parquet`, `data/clean/ratings.parquet` and the embeddings; writes
`data/annotation_qa/`:

- `records.parquet`: the same rows and columns + `consensus_label`, `annotator_agreement`, `ratings`;
- `annotators.parquet`: `annotator`, `ratings`, `ratings_with_others` (of rows that others rated, too), `accuracy` (the
  share of those that give the label most of the others give), `crowdlab_quality`, `mean_pairwise_kappa`, `kappa_pairs`;
  null where a figure is undefined;
- `disagreement.parquet`: the rows with several ratings, the most disputed first, with their texts: what the guidelines
  do not settle. `disagreement.csv` is its top for people; a cell that a spreadsheet would run as a formula starts with
  an apostrophe there;
- `crowdlab.parquet`: `id`, `crowdlab_label`, `crowdlab_quality` of the rated rows. For information: no later stage may
  read it, since the model behind it saw labels of rows that will be in the test split.

How to read the figures:

1. Figures of agreement are over the rows with several ratings (`rows_with_several_ratings`); a figure that is undefined
   has no key. Their intervals resample these rows, and say nothing of what other annotators would have done.
2. Fleiss' kappa gives each row the same weight, Krippendorff's alpha each rating. Where `label_order` is given, the
   weighted kappas and the ordinal alpha count neighbouring labels as less far apart; the interval alpha is over the
   ratings as numbers, where they are numbers.
3. The consensus label is the label most of a row's ratings give. A tie goes to the label that is more frequent in all
   ratings, then to the first in alphabetical order. The reference label has no say: it grades. It may be made
   otherwise (in the default data from the mean of the ratings), so their agreement is reported.
4. An annotator is compared with the majority of a row's other annotators, never with a majority they are part of.
5. In the default data an annotator is a position in a row's list of ratings: a slot, in which different people sit from
   row to row. Mean pairwise Cohen's kappa then says how far two raters drawn at random agree, as Fleiss' kappa does,
   and nothing of the habits of any one person; so do the figures in `annotators.parquet`. Each pair of slots has the
   same weight there, and most pairs have only those rows in common that more than 20 people rated: the mean kappa and
   its interval are mostly of these.
6. CROWDLAB (`assay/annotation/crowdlab.py`) weighs the ratings against a logistic regression on the frozen embeddings,
   that is fitted on the majority labels of other folds; rows of a semantic group are in one fold. A row that no fold
   can judge gets the shares of the labels instead.

When the annotators agree less than the gate allows, everything is written first, so that there is something to look at,
and then the stage fails. (DVC leaves the files of a failed stage, and takes them away when it runs the stage again.)
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.annotation.agreement import krippendorff_alpha_interval, label_agreement, label_counts, number_sums
from assay.annotation.consensus import agreement_with_others, disputed_rows, majority, tied_rows, votes_of
from assay.annotation.crowdlab import CrowdOpinion, crowd_opinion
from assay.annotation.pairwise_kappa import Pairs, annotator_pairs, mean_pairwise_kappas, pair_kappas, undefined_pairs
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.seeds import derived_seed, generator
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.statistics.bootstrap import bootstrap_figures
from assay.statistics.metrics_dict import Estimate

RECORDS = Path("data/semantic_duplicates/records.parquet")
RATINGS = Path("data/clean/ratings.parquet")
OUTPUT = Path("data/annotation_qa")
METRICS = Path("metrics/annotation_qa.json")

GATE = "krippendorff_alpha_nominal"
DISPUTED_IN_ERROR = 5
TEXT_IN_ERROR_CHARACTERS = 120
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

CONSENSUS_SCHEMA = pl.Schema({"consensus_label": pl.String, "annotator_agreement": pl.Float64, "ratings": pl.Int64})

Metrics = dict[str, "float | Metrics"]


class CrowdlabParams(Params):
    """The `annotation_qa.crowdlab` block of `params.yaml`."""

    folds: int = Field(ge=2, le=100)
    C: float = Field(gt=0)
    max_cells: int = Field(ge=4)
    max_annotators: int = Field(ge=2)


class AnnotationQaParams(Params):
    """The `annotation_qa` section of `params.yaml`."""

    label_order: list[str] | None = Field(min_length=2)
    min_krippendorff_alpha: float | None = Field(ge=-1, le=1)
    bootstrap_samples: int = Field(ge=100, le=100_000)
    disputed_rows: int = Field(ge=1)
    min_common_items: int = Field(ge=2)
    max_annotator_pairs: int = Field(ge=1)
    crowdlab: CrowdlabParams | None

    @field_validator("label_order")
    @classmethod
    def _each_label_once(cls, labels: list[str] | None) -> list[str] | None:
        twice = sorted({label for label in labels or [] if labels and labels.count(label) > 1})
        if twice:
            raise ValueError(f"each label once; {twice} is there several times")
        return labels


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    samples: int
    seed: int


def check_ratings(ratings: pl.DataFrame, label_order: list[str] | None) -> None:
    """See that nobody rated a row twice, and that the labels are among those in order.

    Raises:
        InputError: a rating that is not as it should be.
    """
    twice = ratings.filter(pl.struct("id", "annotator").is_duplicated())
    if twice.height:
        id_, annotator = twice.select("id", "annotator").row(0)
        raise InputError(
            f"{RATINGS}: annotator {annotator!r} rated row {id_!r} more than once ({twice.height} such ratings in "
            "all); leave one of them in the raw file, or run `ingest` and `clean` again"
        )
    if label_order is None:
        return
    unknown = sorted(set(ratings["label"].unique()) - set(label_order))
    if unknown:
        row = ratings.filter(pl.col("label") == unknown[0]).row(0, named=True)
        raise InputError(
            f"{RATINGS}: row {row['id']!r} has the label {unknown[0]!r} from annotator {row['annotator']!r}, which is "
            f"not in `annotation_qa.label_order` = {label_order} of params.yaml; put {unknown} where they belong in "
            "the order, or write null where labels have none"
        )


def add_consensus(records: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """The records with `consensus_label`, `annotator_agreement` (its share of the row's ratings) and `ratings`."""
    joined = records.join(majority(votes), on="id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("ratings").fill_null(0)).with_columns(
        pl.col(name).cast(dtype) for name, dtype in CONSENSUS_SCHEMA.items()
    )


def with_rows(ratings: pl.DataFrame, records: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """The ratings with `consensus_label`, `reference_label` and `source` of their row, and `agrees_with_others`.

    `agrees_with_others` is null where the row has no other rating.
    """
    return ratings.join(
        records.select("id", "consensus_label", "reference_label", "source"),
        on="id",
        how="inner",
        maintain_order="left",
    ).join(agreement_with_others(votes), on=["id", "label"], how="left", maintain_order="left")


def label_codes(ratings: pl.DataFrame, label_order: list[str] | None) -> NDArray[np.int64]:
    """The labels as numbers from 0, in their order where they have one, else in alphabetical order."""
    if label_order is None:
        return _codes(ratings["label"])
    return ratings["label"].replace_strict(label_order, range(len(label_order)), return_dtype=pl.Int64).to_numpy()


def chance_corrected(ratings: pl.DataFrame, label_order: list[str] | None, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Fleiss' kappa and Krippendorff's alphas; those that are undefined are left out.

    Args:
        ratings: `id`, `label`, `rating`.
        label_order: labels in order, or None.
        bootstrap: how intervals are drawn.
    """
    counts = label_counts(_codes(ratings["id"]), label_codes(ratings, label_order))
    figures = bootstrap_figures(
        partial(label_agreement, counts, ordered=label_order is not None),
        len(counts.ratings),
        bootstrap.samples,
        generator(bootstrap.seed, "annotation_qa", "labels"),
    )
    numeric = ratings.filter(pl.col("rating").is_finite())
    sums = number_sums(_codes(numeric["id"]), numeric["rating"].to_numpy())
    return figures | bootstrap_figures(
        lambda weights: {"krippendorff_alpha_interval": krippendorff_alpha_interval(sums, weights)},
        len(sums.ratings),
        bootstrap.samples,
        generator(bootstrap.seed, "annotation_qa", "numbers"),
    )


def pairwise(pairs: Pairs, ordered: bool, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Mean Cohen's kappas over the pairs of annotators; those that are undefined are left out."""
    return bootstrap_figures(
        partial(mean_pairwise_kappas, pairs, ordered=ordered),
        pairs.tables.shape[1],
        bootstrap.samples,
        generator(bootstrap.seed, "annotation_qa", "pairs"),
    )


def figures(estimates: Mapping[str, Estimate]) -> Metrics:
    """Estimates as metrics: `<name>`, `<name>_ci95_low`, `<name>_ci95_high`."""
    metrics: Metrics = {}
    for name, estimate in estimates.items():
        metrics[name] = estimate.value
        if estimate.low is not None and estimate.high is not None:
            metrics |= {f"{name}_ci95_low": estimate.low, f"{name}_ci95_high": estimate.high}
    return metrics


def single_rater_accuracy(ratings: pl.DataFrame) -> Metrics:
    """Share of ratings that give the label most others give, and their row's reference label; over what is defined."""
    row = ratings.select(
        single_rater_accuracy=pl.col("agrees_with_others").mean(),
        single_rater_accuracy_against_reference=(pl.col("label") == pl.col("reference_label")).mean(),
    ).row(0, named=True)
    return {name: share for name, share in row.items() if share is not None}


def label_shares(records: pl.DataFrame) -> Metrics:
    """How far the given label, the consensus of most raters and the reference label agree, over rated rows."""
    row = (
        records.filter(pl.col("consensus_label").is_not_null())
        .select(
            consensus_agrees_with_reference=(pl.col("consensus_label") == pl.col("reference_label")).mean(),
            label_agrees_with_consensus=(pl.col("label") == pl.col("consensus_label")).mean(),
            label_agrees_with_reference=(pl.col("label") == pl.col("reference_label")).mean(),
        )
        .row(0, named=True)
    )
    return {name: share for name, share in row.items() if share is not None}


def annotator_quality(ratings: pl.DataFrame, pairs: Pairs, crowd: pl.DataFrame) -> pl.DataFrame:
    """The table of `annotators.parquet`, sorted by annotator.

    Args:
        ratings: as `with_rows` gives them.
        pairs: of the annotators who rated rows with others, numbered in the sorted order of their names.
        crowd: `annotator` and `crowdlab_quality`.
    """
    kappas = pair_kappas(pairs, np.ones((pairs.tables.shape[1], 1)), ordered=False)["plain"][:, 0]
    names = ratings.filter(pl.col("agrees_with_others").is_not_null())["annotator"].unique().sort()
    by_pair = (
        pl.DataFrame({"number": np.concatenate([pairs.first, pairs.second]), "kappa": np.concatenate([kappas, kappas])})
        .filter(pl.col("kappa").is_not_nan())
        .group_by("number")
        .agg(pl.col("kappa").mean().alias("mean_pairwise_kappa"), pl.len().cast(pl.Int64).alias("kappa_pairs"))
        .select(pl.lit(names).gather(pl.col("number")).alias("annotator"), "mean_pairwise_kappa", "kappa_pairs")
    )
    return (
        ratings.group_by("annotator")
        .agg(
            pl.len().cast(pl.Int64).alias("ratings"),
            pl.col("agrees_with_others").count().cast(pl.Int64).alias("ratings_with_others"),
            pl.col("agrees_with_others").mean().alias("accuracy"),
        )
        .join(crowd, on="annotator", how="left")
        .join(by_pair, on="annotator", how="left")
        .with_columns(pl.col("kappa_pairs").fill_null(0))
        .sort("annotator")
    )


def safe_for_spreadsheets(table: pl.DataFrame) -> pl.DataFrame:
    """The table with an apostrophe before every text that a spreadsheet would take for a formula."""
    return table.with_columns(
        pl.when(pl.any_horizontal(pl.col(name).str.starts_with(start) for start in FORMULA_STARTS))
        .then("'" + pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name, dtype in table.schema.items()
        if dtype == pl.String
    )


def gate_failure(
    overall: Mapping[str, Estimate],
    per_source: Mapping[str, Mapping[str, Estimate]],
    disputed: pl.DataFrame,
    min_krippendorff_alpha: float,
) -> str | None:
    """The sentence that says why the annotators do not agree enough, or None where they do or nothing can be said.

    Args:
        overall: figures over all rows.
        per_source: figures by source.
        disputed: rows, the most disputed first.
        min_krippendorff_alpha: the least that is enough.
    """
    alpha = overall.get(GATE)
    if alpha is None or alpha.value >= min_krippendorff_alpha:
        return None
    interval = "" if alpha.low is None else f" (95% interval {alpha.low:.3f} to {alpha.high:.3f})"
    sources = sorted((estimates[GATE].value, name) for name, estimates in per_source.items() if GATE in estimates)
    worst = f"; worst is source {sources[0][1]!r} with {sources[0][0]:.3f}" if sources else ""
    counts = [name for name in disputed.columns if name.startswith("ratings_")]
    examples = []
    for row in disputed.head(DISPUTED_IN_ERROR).iter_rows(named=True):
        votes = ", ".join(f"{name.removeprefix('ratings_')} {row[name]}" for name in counts if row[name])
        text = " ".join((row["text"] or "").split())
        shown = text if len(text) <= TEXT_IN_ERROR_CHARACTERS else f"{text[: TEXT_IN_ERROR_CHARACTERS - 1]}…"
        examples.append(f"\n  {row['id']} ({votes}): {shown}")
    return (
        f"the annotators agree too little: Krippendorff's alpha of the labels is {alpha.value:.3f}{interval}, less "
        f"than `annotation_qa.min_krippendorff_alpha` = {min_krippendorff_alpha:g} in params.yaml{worst}. Look at the "
        f"most disputed rows in {OUTPUT / 'disagreement.csv'}, write into docs/annotation_guidelines.md how such rows "
        "are to be labelled, and have them rated again by it; or, if you can live with these labels, lower the "
        f"threshold (null: no gate). Most disputed:{''.join(examples)}"
    )


def say(message: str) -> None:
    """Tell on standard error what the stage did."""
    print(f"annotation_qa: {message}", file=sys.stderr)


def _codes(column: pl.Series) -> NDArray[np.int64]:
    """Values as numbers from 0 in sorted order, shape `(len(column),)`."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()


def report_gaps(records: pl.DataFrame, annotators: pl.DataFrame) -> None:
    """Say for which rows and annotators there was nothing to measure."""
    rated = records.filter(pl.col("ratings") > 0).height
    several = records.filter(pl.col("ratings") > 1).height
    if rated == 0:
        say("there are no ratings; the given labels pass through as they are")
    elif several == 0:
        say(
            f"none of {rated} rated row(s) has more than one rating, so agreement cannot be measured; the consensus of "
            "a row is its only rating, and there are no disputed rows"
        )
    elif several < records.height:
        say(
            f"{several} of {records.height} rows have several ratings, and agreement is measured on these; "
            f"{rated - several} have one, {records.height - rated} have none"
        )
    alone = annotators.filter(pl.col("ratings_with_others") == 0)["annotator"]
    if several and len(alone):
        say(
            f"{len(alone)} of {annotators.height} annotators, such as {alone[0]!r}, rated no row that another rated; "
            "nothing can be said of their accuracy"
        )


def agreement_metrics(records: pl.DataFrame, ratings: pl.DataFrame, votes: pl.DataFrame) -> Metrics:
    """Counts and shares over the rated rows; none where there are no ratings.

    Args:
        records: as `add_consensus` gives them.
        ratings: as `with_rows` gives them.
        votes: as `votes_of` gives them.
    """
    if ratings.is_empty():
        return {}
    rated = records.filter(pl.col("ratings") > 0)
    several = ratings.filter(pl.len().over("id") > 1)
    return {
        "rows_with_ratings": rated.height,
        "rows_with_several_ratings": several["id"].n_unique(),
        "annotators": ratings["annotator"].n_unique(),
        "ratings_per_row_min": rated.select(pl.col("ratings").min()).item(),
        "ratings_per_row_max": rated.select(pl.col("ratings").max()).item(),
        "consensus_ties": tied_rows(votes),
        **(single_rater_accuracy(several) if several.height else {}),
        **label_shares(records),
    }


def main() -> None:
    """Measure agreement, add the consensus label, and stop where the annotators agree too little."""
    params = load_params("annotation_qa", AnnotationQaParams)
    bootstrap = Bootstrap(params.bootstrap_samples, load_params("seed", int))
    ordered = params.label_order is not None
    given = pl.read_parquet(RECORDS)
    # Rows may have been removed since the ratings were cleaned.
    ratings = pl.read_parquet(RATINGS).filter(pl.col("label").is_not_null()).join(given, on="id", how="semi")
    ratings = ratings.sort("id", "annotator")
    check_ratings(ratings, params.label_order)
    votes = votes_of(ratings)
    records = add_consensus(given, votes)
    ratings = with_rows(ratings, records, votes)
    several = ratings.filter(pl.len().over("id") > 1)
    disputed = disputed_rows(records, votes)

    # Several threads add up in another order, and last bits, and with them labels, would depend on the machine.
    with threadpool_limits(limits=1):
        pairs = annotator_pairs(
            _codes(several["id"]),
            _codes(several["annotator"]),
            label_codes(several, params.label_order),
            params.min_common_items,
            params.max_annotator_pairs,
        )
        overall = chance_corrected(several, params.label_order, bootstrap)
        per_source = {
            str(source): chance_corrected(part, params.label_order, bootstrap)
            for (source,), part in sorted(several.partition_by("source", as_dict=True).items())
        }
        cohen = pairwise(pairs, ordered, bootstrap)
        crowd = CrowdOpinion.nothing()
        if params.crowdlab and several.height:
            crowd = crowd_opinion(
                records,
                ratings,
                partial(embeddings_of, embeddings=pl.read_parquet(EMBEDDINGS), rows=RECORDS),
                **params.crowdlab.model_dump(),
                seed=derived_seed(bootstrap.seed, "annotation_qa", "crowdlab"),
            )

    annotators = annotator_quality(ratings, pairs, crowd.annotators)
    metrics: Metrics = {"rows_in": given.height, "rows_out": records.height, "removed": {}, "ratings": ratings.height}
    metrics |= agreement_metrics(records, ratings, votes)
    if several.height:
        metrics |= figures(overall) | figures(cohen)
        metrics["cohen_kappa_pairs"] = len(pairs.first)
        metrics["cohen_kappa_undefined_pairs"] = undefined_pairs(pairs)
        metrics["per_source"] = {
            source: {"ratings": part.height, "rows_with_several_ratings": part["id"].n_unique()}
            | figures(per_source[source])
            | single_rater_accuracy(part)
            for source in per_source
            for part in [several.filter(pl.col("source") == source)]
        }
    if crowd.metrics:
        metrics["crowdlab"] = crowd.metrics
    report_gaps(records, annotators)
    for message in crowd.messages:
        say(message)

    with output_folder(OUTPUT) as folder:
        write_parquet(records, folder / "records.parquet")
        write_parquet(annotators, folder / "annotators.parquet")
        write_parquet(disputed, folder / "disagreement.parquet")
        write_parquet(crowd.rows, folder / "crowdlab.parquet")
        safe_for_spreadsheets(disputed.head(params.disputed_rows)).write_csv(
            folder / "disagreement.csv", float_precision=4
        )
    write_json(METRICS, metrics)

    if params.min_krippendorff_alpha is None:
        return
    if GATE not in overall and several.height:
        say("all ratings are one label, so Krippendorff's alpha is undefined, and the gate lets them pass")
    failure = gate_failure(overall, per_source, disputed, params.min_krippendorff_alpha)
    if failure:
        raise InputError(failure)


if __name__ == "__main__":
    run_stage(main)
