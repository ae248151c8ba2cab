"""Which chats belong together, by their words and by what they mean, and the split of each group."""

import sys
from collections.abc import Mapping, Sequence
from os.path import commonprefix
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

SHARED_WORDS = 8
"""Fewer words that questions begin or end with are no instruction, and are compared with the rest."""


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


def find_compared(records: pl.DataFrame) -> dict[str, str]:
    """What is compared of each prompt and question: all but the instruction that those of its source share.

    It tells none of them apart, makes all similar, and may leave an encoder no room for what does. It is printed.
    """
    compared = dict[str, str]()
    for (source,), rows in records.group_by("source", maintain_order=True):
        texts = pl.concat([rows["prompt"], rows["question"]]).unique(maintain_order=True).to_list()
        rests, shared = strip_shared(texts)
        if shared:
            shown = " ".join(shared)[:80]
            print(f"{source}: questions share {len(shared)} words, which are not compared: {shown}…", file=sys.stderr)
        compared |= zip(texts, rests, strict=True)
    return compared


def strip_shared(texts: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Different texts without the words that more than half of them begin or end with, and those words.

    A text of nothing else stays whole.
    """
    rows, words = [text.split() for text in texts], list[str]()
    for step in (1, -1):
        rows = [row[::step] for row in rows]
        # In order, rows that begin alike are together: more than half of all, if the first and last of so many do.
        ordered = sorted(rows)
        halves = zip(ordered, ordered[max(1, len(rows) // 2) :], strict=False)
        shared = max((commonprefix(pair) for pair in halves), key=len, default=[])  # noqa: RUF071  # of lists
        if (count := len(shared)) >= SHARED_WORDS:
            rows = [row[count:] if row[:count] == shared and len(row) > count else row for row in rows]
            words += shared[::step]
        rows = [row[::step] for row in rows]
    return [" ".join(row) for row in rows] if words else texts, words


def group_chats(
    records: pl.DataFrame,
    compared: Mapping[str, str],
    near: NearDuplicateParams | None,
    vectors: NDArray[np.float32] | None,
    min_question_cosine: float | None,
    device: Device,
) -> pl.Series:
    """The group of each chat: the id of its first row.

    `compared` is of `find_compared`, `vectors` are embeddings of the prompts, shape `(n, d)`; those of at least
    `min_question_cosine` mean the same.
    """
    whole = records.select(pl.format("{} {}", pl.col("prompt").replace(compared), "answer")).to_series()
    prompts = normalise_texts(records["prompt"]).to_frame("prompt")
    links = [near_duplicate_groups(whole, near), first_equal(prompts, "prompt")]
    if vectors is not None and min_question_cosine is not None:
        links.append(semantic_groups(vectors, min_question_cosine, device.device).first)
    rows = np.arange(records.height)
    first = join_groups(rows, np.tile(rows, len(links)), np.concatenate(links))
    return records["id"].gather(pl.Series(first))


def assign_splits(
    records: pl.DataFrame, params: SplitParams, path: Path, seed: int, cut_prompts: int
) -> tuple[Filtered, dict[str, int]]:
    """The records with their `split`, and how many groups of each small category are not in the split of their draw.

    An `InputError` if a category is too rare for every split, and `split.rare_labels` is `error`, no row is left, or
    all are in one group, though they ask more than a few things.
    """
    if records["group"].n_unique() == 1 and records["prompt"].n_unique() > 3:
        raise InputError(
            f"{path}: all {records.height} chats are in one group, as if they asked the same; {cut_prompts} of their "
            "prompts were cut (`embed.max_length_tokens`), maybe before what tells them apart; raise that, or "
            "`instruct_data.min_question_cosine`, or `clean.near_duplicates.min_jaccard`"
        )
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


def embed_chats(
    records: pl.DataFrame, compared: Mapping[str, str], params: EmbedParams, device: Device
) -> tuple[TextVectors, dict[str, int]]:
    """Embeddings of prompts, questions and answers, and how many prompts and answers were cut, which is printed."""
    texts = pl.concat([records["prompt"], records["question"], records["answer"]]).unique(maintain_order=True)
    number = {text: row for row, text in enumerate(dict.fromkeys(compared.get(text, text) for text in texts))}
    embedded, tokens = embedded_texts(list(number), params, device)
    numbers = {text: number[compared.get(text, text)] for text in texts}
    is_cut = tokens.lengths == params.max_length_tokens
    cut = {name: sum(bool(is_cut[numbers[text]]) for text in records[name]) for name in ("prompt", "answer")}
    if any(cut.values()):
        seen = f"the first {params.max_length_tokens} tokens (`embed.max_length_tokens`) of {cut['prompt']} prompts"
        print(f"instruct_data: {seen} and {cut['answer']} answers are compared, not the rest", file=sys.stderr)
    return TextVectors(numbers, embedded.embeddings), cut
