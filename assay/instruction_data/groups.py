"""Which chats belong together, by their words and by what they mean, and the split of each group."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.removed_rows import Filtered, removed_rows
from assay.duplicates.components import first_equal, join_groups
from assay.duplicates.near_duplicates import NearDuplicateParams, near_duplicate_groups
from assay.duplicates.semantic_groups import semantic_groups
from assay.duplicates.shingles import normalise_texts
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.instruction_data.distractors import TextVectors
from assay.instruction_data.table import PROMPT_AND_ANSWER
from assay.splitting.assignment import SPLITS, SplitParams, assign, rare_label_rows, refuse_rare_labels


def add_turns(records: pl.DataFrame) -> pl.DataFrame:
    """The records with `question`, `answer`, and `prompt`: all that is said before the answer but system messages."""
    without_system = pl.col("messages").list.filter(pl.element().struct.field("role") != "system")
    contents = without_system.list.eval(pl.element().struct.field("content"))
    return records.with_columns(
        question=contents.list.get(-2),
        answer=contents.list.get(-1),
        prompt=contents.list.head(contents.list.len() - 1).list.join("\n"),
    )


def remove_exact_duplicates(records: pl.DataFrame) -> Filtered:
    """The first of chats that are the same to the letter, and bring the same context; system messages apart."""
    is_first = pl.struct("prompt", "answer", "context").is_first_distinct()
    return Filtered(
        records.filter(is_first), removed_rows(records.filter(~is_first), "exact_duplicate", PROMPT_AND_ANSWER)
    )


def group_chats(
    records: pl.DataFrame,
    near: NearDuplicateParams | None,
    vectors: NDArray[np.float32] | None,
    min_question_cosine: float | None,
    device: Device,
) -> pl.Series:
    """The group of each chat: the id of its first row.

    `vectors` are embeddings of the prompts, shape `(n, d)`; those of at least `min_question_cosine` mean the same.
    """
    whole = records.select(pl.format("{} {}", "prompt", "answer")).to_series()
    prompts = normalise_texts(records["prompt"]).to_frame("prompt")
    links = [near_duplicate_groups(whole, near), first_equal(prompts, "prompt")]
    if vectors is not None and min_question_cosine is not None:
        links.append(semantic_groups(vectors, min_question_cosine, device.device).first)
    rows = np.arange(records.height)
    first = join_groups(rows, np.tile(rows, len(links)), np.concatenate(links))
    return records["id"].gather(pl.Series(first))


def assign_splits(records: pl.DataFrame, params: SplitParams, path: Path, seed: int) -> tuple[Filtered, dict[str, int]]:
    """The records with their `split`, and how many groups of each small category are not in the split of their draw.

    An `InputError` if a category is too rare for every split, and `split.rare_labels` is `error`, or no row is left.
    """
    labelled = records.with_columns(label="category", split_group="group")
    rare = rare_label_rows(labelled)
    if params.rare_labels == "error":
        fix = "raise `instruct_data.min_question_cosine` if questions are grouped that do not mean the same"
        refuse_rare_labels(rare, path, "category", f"at least {len(SPLITS)} rows that are no duplicates", fix)
    common = labelled.join(rare.select("id"), on="id", how="anti", maintain_order="left")
    if not common.height:
        raise InputError(f"{path}: no row is left; every category has too few rows: add some, or merge categories")
    assignment = assign(common, params, seed)
    removed = removed_rows(rare, "rare_category", PROMPT_AND_ANSWER)
    return Filtered(assignment.rows.drop("label", "split_group"), removed), assignment.forced


def embed_chats(records: pl.DataFrame, params: EmbedParams, device: Device) -> TextVectors:
    """Embeddings of all prompts, questions and answers."""
    texts = pl.concat([records["prompt"], records["question"], records["answer"]]).unique(maintain_order=True)
    embedded, _ = embedded_texts(texts.to_list(), params, device)
    return TextVectors({text: number for number, text in enumerate(texts)}, embedded.embeddings)
