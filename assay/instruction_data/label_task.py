"""Rows of the classification track as instructions: a text, the labels that there are, and the answer."""

from collections.abc import Mapping
from typing import Annotated

import polars as pl
from pydantic import AfterValidator, Field

from assay.core.params import Params
from assay.core.prompt_template import fill_places, name_labels, places_exactly
from assay.core.seeds import SeedKey, keyed_uniform
from assay.instruction_data.table import CHAT_SCHEMA
from assay.language_models.chat_template import MESSAGES, add_answers
from assay.splitting.assignment import SPLITS


class LabelTaskParams(Params):
    """Block `instruct_data.label_task`."""

    prompt: Annotated[str, AfterValidator(places_exactly("labels", "text"))]
    train_rows: int = Field(ge=0)
    validation_rows: int = Field(ge=0)
    test_rows: int = Field(ge=0)


def sample_by_label(rows: pl.DataFrame, wanted: int, key: SeedKey) -> pl.DataFrame:
    """So many of the rows (`id`, `label`), or all that there are, stratified by label; they keep their order."""
    draw = keyed_uniform(rows["id"], *key)
    # Evenly spread over [0, 1) within each label: the lowest of all together are of all labels alike.
    place = (pl.col("draw").rank("ordinal").over("label") - 0.5) / pl.len().over("label")
    placed = rows.with_row_index("row").with_columns(draw=draw).with_columns(place=place)
    return placed.sort("place", "label").head(wanted).sort("row").drop("row", "draw", "place")


def make_label_chats(parts: Mapping[str, pl.DataFrame], params: LabelTaskParams, key: SeedKey) -> pl.DataFrame:
    """Rows of the classification track (by split) as instructions (`CHAT_SCHEMA` and `split`)."""
    labels = parts["train"]["label"].unique().sort().to_list()
    wanted = {"train": params.train_rows, "validation": params.validation_rows, "test": params.test_rows}
    drawn = pl.concat(
        sample_by_label(parts[split], wanted[split], (*key, "label", split)).with_columns(split=pl.lit(split))
        for split in SPLITS
    )
    questions = [fill_places(params.prompt, {"labels": name_labels(labels), "text": text}) for text in drawn["text"]]
    messages = add_answers([[{"role": "user", "content": question}] for question in questions], drawn["label"])
    nothing = pl.lit([], pl.List(pl.String))
    return drawn.with_columns(
        pl.Series("messages", messages, dtype=MESSAGES),
        pl.Series("question", questions, dtype=pl.String),
        category="label",
        answer="label",
        task=pl.lit("label"),
        without_loss=pl.lit([], pl.List(pl.Int64)),
        context=nothing,
        context_ids=nothing,
        answer_in_context=pl.lit(False),
        group="split_group",
    ).select(*CHAT_SCHEMA.names(), "split")
