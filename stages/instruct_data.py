"""Questions and answers of several files as one table of chats, some with the passages that a search would find.

Decides: which chats can be learnt from, which split each is in, and what each shows the model beside its question.

Reads the files named in `instruct_data.sources`, below `instruct_data.path`, and for the label task the splits of the
classification track; writes `data/instruct/{train,validation,test}.parquet` (`CHAT_SCHEMA`), and beside them
`removed.parquet` and `changed.parquet` (which says in `field` what changed).

1. **Records** of four formats become chats (`assay/instruction_data/formats.py`). One that cannot be used is removed
   with the reason; more than `max_reject_fraction` of a file's stop the stage.
2. **Cleaning** is that of section `clean`: its rules in its order, on every message and context by itself, then its
   limits. Placeholders such as `<EMAIL>` stay in questions and answers.
3. **Groups**: the same chat twice is an `exact_duplicate`. Chats are in one group, and so in one split, when question
   and answer are near duplicates (`clean.near_duplicates`), when what is asked is the same but for case and
   punctuation, or means the same by the frozen encoder (`min_question_cosine`). System messages do not count.
4. **Split**: fractions, draws and the care for small strata are those of the stage `split`, with the category for the
   stratum. Old rows keep their split when rows are added, as there.
5. **Context**: the knowledge base is the train answers of the sources that are searched. A chat is shown its own answer
   among the best that a search finds for its question, in an order drawn by key; or, by a draw, nothing
   (`closed_book_fraction`). By another draw it is there once more as `<id>#unanswerable`, with passages that do not
   hold its answer, and answered by a refusal. No validation or test answer is ever shown to another row.
6. **Labels**: rows of the classification track as instructions, in the splits that they have there. Train rows come
   from what `label_errors` let in, with their given label; test rows have the reference label.
7. **Length**: a chat that is longer than `max_length_tokens` as it came is removed (`max_tokens`), and so is a twin
   without an answer. One that is too long through its passages alone goes without them.

All draws are keyed by the row, so a row keeps its own when others come and go; its distractors may change with the
knowledge base.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from assay.cleaning.rules import CleanParams
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.duplicates.components import join_groups
from assay.duplicates.near_duplicates import NearDuplicateParams, near_duplicate_groups
from assay.duplicates.semantic_groups import semantic_groups
from assay.duplicates.shingles import normalise_texts
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.instruction_data.cleaning import cleaned_chats
from assay.instruction_data.context import ContextParams, shown_chats, with_given_context
from assay.instruction_data.distractors import TextVectors
from assay.instruction_data.formats import FIXES, ColumnsLayout, Layout, read_chats
from assay.instruction_data.label_task import LabelTaskParams, label_chats
from assay.instruction_data.table import PROVENANCE, Filtered, chat_lengths, removed_rows, within_length
from assay.language_models.chat_template import require_chat_template
from assay.sources.provenance import Provenance, check_ids, content_ids, origins, unreadable_rows
from assay.sources.table_files import TableFormat, read_table
from assay.splitting.assignment import SPLITS, SplitParams, assign, rare_label_rows, refuse_rare_labels, strata
from assay.splitting.target_labels import read_test_rows, target_numbers

OUTPUT = Path("data/instruct")
METRICS = Path("metrics/optional/instruct_data.json")
LABEL_TRAIN = Path("data/label_errors/train.parquet")
LABEL_VALIDATION = Path("data/split/validation.parquet")

TASKS = ("answer", "unanswerable", "label")
REMOVALS = (
    *FIXES,
    *("unsettled", "empty_text", "min_characters", "max_characters", "language"),
    *("exact_duplicate", "max_tokens", "rare_category"),
)
"""Rules that remove rows, in order, beside those of records that cannot be read."""

SHOWN_CHARACTERS = 80


class Source(Provenance):
    """One file of questions and answers."""

    file: Annotated[str, Field(min_length=1)]
    format: TableFormat
    header: bool
    layout: Layout
    system_message: Annotated[str, Field(min_length=1)] | None
    passages: Literal["search", "given", "none"]

    @model_validator(mode="after")
    def _context_is_used(self) -> "Source":
        has_context = isinstance(self.layout, ColumnsLayout) and self.layout.context is not None
        if has_context != (self.passages == "given"):
            raise ValueError("`passages: given` and a column under `layout.context` go together")
        return self


class InstructDataParams(Params):
    """Section `instruct_data`."""

    path: Annotated[str, Field(min_length=1)]
    max_reject_fraction: float = Field(ge=0, le=1)
    sources: Annotated[list[Source], Field(min_length=1)]
    min_question_cosine: float | None = Field(gt=0, le=1)
    context: ContextParams | None
    label_task: LabelTaskParams | None
    max_length_tokens: int = Field(ge=8, le=1048576)

    @model_validator(mode="after")
    def _consistent(self) -> "InstructDataParams":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"the sources are named {names}; each needs a name of its own")
        if self.context is None and (given := [one.name for one in self.sources if one.passages == "given"]):
            raise ValueError(f"source {given[0]!r} has `passages: given`, and `context` is null: say how to show them")
        return self

    @property
    def needs_encoder(self) -> bool:
        """Whether anything is decided by embeddings."""
        unanswerable = self.context.unanswerable if self.context else None
        return (
            self.min_question_cosine is not None
            or (self.context is not None and self.context.search == "embedding")
            or (unanswerable is not None and unanswerable.max_cosine is not None)
        )


@dataclass(frozen=True)
class Read:
    """One source as it came.

    Attributes:
        rows_in: records of its file, readable or not.
        records: `id`, `source`, `category`, `messages`, `context`, `origin` and provenance.
        removed: `REMOVED_SCHEMA`, records that cannot be read or used.
    """

    rows_in: int
    records: pl.DataFrame
    removed: pl.DataFrame


def read_source(source: Source, position: int, params: InstructDataParams) -> Read:
    """Read one source.

    Raises:
        InputError: as `read_table`, `column` and `check_ids`; there is no row; or more records than
            `max_reject_fraction` cannot be read or used: names the first, what is there, and the fix.
    """
    path = Path(params.path) / source.file
    key = f"instruct_data.sources.{position}"
    table = read_table(path, source.format, source.header)
    rows_in = table.cells.height + table.unreadable.height
    if not rows_in:
        raise InputError(f"{path}: has no row; is it the right file, and is its `header` set rightly?")
    chats = read_chats(table, source.layout, source.system_message, path, f"{key}.layout")
    rejects = pl.concat([table.unreadable, chats.rejected]).sort("line", maintain_order=True)
    if rejects.height > params.max_reject_fraction * rows_in:
        line, rule, before = rejects.row(0)
        raise InputError(
            f"{path}:{line}: {rule}: {before[:SHOWN_CHARACTERS]!r}; {rejects.height} of {rows_in} records cannot be "
            f"used, more than `instruct_data.max_reject_fraction` = {params.max_reject_fraction}: "
            f"{FIXES.get(rule, 'mend the file')}; or raise that number"
        )
    records = chats.records
    if source.layout.id is None:
        contents = pl.col("messages").list.eval(pl.format("{}\x1f{}", *_fields("role", "content"))).list
        turns = records.select(
            prompt=contents.head(pl.col("messages").list.len() - 1).list.join("\x1e"), answer=contents.last()
        )
        records = records.with_columns(id=content_ids(turns["prompt"], turns["answer"]))
    records = records.select(
        pl.format("{}:{}", pl.lit(source.name), "id").alias("id"),
        pl.lit(source.name).alias("source"),
        pl.col("category").fill_null(source.name),
        "messages",
        "context",
        origins(source.file, records["line"]),
        pl.lit(source.url).alias("source_url"),
        pl.lit(source.licence, pl.String).alias("licence"),
        pl.lit(source.retrieved, pl.String).alias("retrieved"),
        pl.lit(source.authenticity).alias("authenticity"),
        pl.lit(source.passages).alias("passages"),
    )
    check_ids(records, path, f"{key}.layout")
    unused = chats.rejected.with_columns(
        id=origins(source.file, chats.rejected["line"]), after=pl.lit(None, pl.String)
    ).select(REMOVED_SCHEMA.names())
    return Read(rows_in, records, pl.concat([unreadable_rows(table, source.file), unused]))


def _fields(*names: str) -> list[pl.Expr]:
    return [pl.element().struct.field(name) for name in names]


def with_turns(records: pl.DataFrame) -> pl.DataFrame:
    """The records with `question`, `answer`, and `prompt`: all that is said before the answer but system messages."""
    without_system = pl.col("messages").list.filter(pl.element().struct.field("role") != "system")
    contents = without_system.list.eval(pl.element().struct.field("content"))
    return records.with_columns(
        question=contents.list.get(-2),
        answer=contents.list.get(-1),
        prompt=contents.list.head(contents.list.len() - 1).list.join("\n"),
    )


def without_exact_duplicates(records: pl.DataFrame) -> Filtered:
    """The first of chats that are the same to the letter, and bring the same context; system messages apart."""
    is_first = pl.struct("prompt", "answer", "context").is_first_distinct()
    return Filtered(records.filter(is_first), removed_rows(records.filter(~is_first), "exact_duplicate"))


def chat_groups(
    records: pl.DataFrame,
    near: NearDuplicateParams,
    vectors: NDArray[np.float32] | None,
    min_question_cosine: float | None,
    device: Device,
) -> pl.Series:
    """The group of each chat: the id of its first row.

    Args:
        records: `id`, `prompt`, `answer`, shape `(n,)`.
        near: near duplicates of prompt and answer together.
        vectors: embeddings of the prompts, shape `(n, d)`.
        min_question_cosine: prompts at least this alike mean the same; None: not asked.
        device: where cosines are computed.
    """
    whole = records.select(pl.format("{} {}", "prompt", "answer")).to_series()
    same_prompt = (
        pl.DataFrame({"prompt": normalise_texts(records["prompt"])})
        .with_row_index("row")
        .select(pl.col("row").min().over("prompt"))
        .to_series()
        .to_numpy()
    )
    links = [near_duplicate_groups(whole, near), same_prompt]
    if vectors is not None and min_question_cosine is not None:
        links.append(semantic_groups(vectors, min_question_cosine, device.device).first)
    rows = np.arange(records.height)
    first = join_groups(rows, np.tile(rows, len(links)), np.concatenate(links))
    return records["id"].gather(pl.Series(first))


def assigned(records: pl.DataFrame, params: SplitParams, path: Path, seed: int) -> tuple[Filtered, dict[str, int]]:
    """The records with their `split`, and how many groups of each small category are not in the split of their draw.

    Args:
        records: `id`, `category`, `group`, `prompt`, `answer`.
        params: section `split`.
        path: of the files, for the error.
        seed: of the project.

    Raises:
        InputError: a category is too rare for every split, and `split.rare_labels` is `error`.
    """
    labelled = records.with_columns(label="category", semantic_group="group", given_label="category")
    rare = rare_label_rows(labelled)
    if params.rare_labels == "error":
        fix = "raise `instruct_data.min_question_cosine` if questions are taken for alike that are not"
        refuse_rare_labels(rare, path, "category", fix)
    common = labelled.join(rare.select("id"), on="id", how="anti", maintain_order="left")
    if not common.height:
        raise InputError(f"{path}: no row is left; every category has too few rows: add some, or leave categories out")
    assignment = assign(strata(common), params.train_fraction, params.validation_fraction, seed)
    splits = assignment.groups.select("semantic_group", "split")
    kept = common.join(splits, on="semantic_group", how="left", maintain_order="left")
    removed = removed_rows(rare, "rare_category")
    return Filtered(kept.drop("label", "semantic_group", "given_label"), removed), assignment.forced


def read_label_rows() -> dict[str, pl.DataFrame]:
    """The rows of the classification track by split, with the label that counts there."""
    train = pl.read_parquet(LABEL_TRAIN)
    test = read_test_rows()
    target_numbers(test, train["label"].unique().sort().to_list())
    parts = {
        "train": train,
        "validation": pl.read_parquet(LABEL_VALIDATION),
        "test": test.with_columns(label="target_label"),
    }
    columns = ("id", "text", "label", "semantic_group", "source", "origin", *PROVENANCE)
    return {name: part.select(columns) for name, part in parts.items()}


def metrics_of(chats: pl.DataFrame, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Rows by split and task, lengths in tokens, and how often the answer is among what is shown.

    Args:
        chats: `CHAT_SCHEMA` and `split`.
        tokenizer: of the base model.
    """
    counts = {(split, task): rows for split, task, rows in chats.group_by("split", "task").len().iter_rows()}
    answering = chats.filter(pl.col("task") == "answer")
    measured = pl.concat([chats.select("task"), chat_lengths(chats, tokenizer)], how="horizontal")
    categories = answering["category"].value_counts().sort("category")
    return {
        "rows": {split: {task: counts.get((split, task), 0) for task in TASKS} for split in SPLITS},
        "answer_in_context_share": {
            split: float(part["answer_in_context"].to_numpy().mean())
            for split in SPLITS
            if (part := answering.filter(pl.col("split") == split)).height
        },
        "categories": categories.height,
        "rows_per_category": dict(categories.rows()),
        "tokens": {
            task: {name: quantiles(part[name]) for name in ("tokens", "answer_tokens")}
            for task in TASKS
            if (part := measured.filter(pl.col("task") == task)).height
        },
    }


def quantiles(values: pl.Series) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    numbers = values.to_numpy()
    return {"p50": float(np.median(numbers)), "p95": float(np.quantile(numbers, 0.95)), "max": float(numbers.max())}


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the base model.

    Raises:
        InputError: there is none, or it has no chat template.
    """
    if not (Path(folder) / "tokenizer_config.json").is_file():
        raise InputError(f"{folder}: no tokenizer there; correct `language_model`, or run `dvc repro fetch`")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    require_chat_template(tokenizer, folder)
    return tokenizer


def text_vectors(records: pl.DataFrame, params: EmbedParams, device: Device) -> TextVectors:
    """Embeddings of all prompts, questions and answers."""
    texts = pl.concat([records["prompt"], records["question"], records["answer"]]).unique(maintain_order=True)
    embedded, _ = embedded_texts(texts.to_list(), params, device)
    return TextVectors({text: number for number, text in enumerate(texts)}, embedded.embeddings)


def main() -> None:
    """Make the chats."""
    started = time.perf_counter()
    params = load_params("instruct_data", InstructDataParams)
    cleaning = load_params("clean", CleanParams)
    splitting = load_params("split", SplitParams)
    embedding = load_params("embed", EmbedParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    tokenizer = load_tokenizer(load_params("language_model", str))
    near = cleaning.near_duplicates
    classified = read_label_rows() if params.label_task else {}

    sources = {source.name: read_source(source, number, params) for number, source in enumerate(params.sources)}
    cleaned = cleaned_chats(pl.concat([one.records for one in sources.values()]), cleaning)
    distinct = without_exact_duplicates(with_turns(cleaned.records))
    prompt = params.context.prompt if params.context else None
    fitted = within_length(with_given_context(distinct.kept, prompt), tokenizer, params.max_length_tokens)
    if not fitted.kept.height:
        raise InputError(f"{params.path}: no chat is left of {[one.file for one in params.sources]}; see the params")
    vectors = text_vectors(fitted.kept, embedding, device) if params.needs_encoder else None
    of_prompts = vectors.of(fitted.kept["prompt"].to_list()) if vectors else None
    grouped = fitted.kept.with_columns(
        group=chat_groups(fitted.kept, near, of_prompts, params.min_question_cosine, device)
    )
    dealt, forced = assigned(grouped, splitting, Path(params.path), seed)
    shown = shown_chats(dealt.kept, params.context, vectors, near, tokenizer, params.max_length_tokens, seed)
    parts = [shown.rows]
    removals = [*(one.removed for one in sources.values()), cleaned.removed, distinct.removed, fitted.removed]
    removals += [dealt.removed, shown.removed]
    label_rows = 0
    if params.label_task:
        labelled = label_chats(classified, params.label_task, seed)
        label_rows = labelled.height
        short = within_length(labelled.with_columns(prompt="question"), tokenizer, params.max_length_tokens)
        parts.append(short.kept.select(shown.rows.columns))
        removals.append(short.removed)
    chats = pl.concat(parts)
    check_unique(chats)
    removed = pl.concat(removals)

    with output_folder(OUTPUT) as folder:
        for split in SPLITS:
            write_parquet(chats.filter(pl.col("split") == split).drop("split"), folder / f"{split}.parquet")
        write_parquet(removed, folder / "removed.parquet")
        write_parquet(cleaned.changed, folder / "changed.parquet")
    read = sum(one.rows_in for one in sources.values())
    twins = chats.filter(pl.col("task") == "unanswerable").height + shown.removed.height
    by_rule = dict(removed["rule"].value_counts().sort("rule").rows())
    changes = dict(cleaned.changed["rule"].value_counts().sort("rule").rows())
    write_json(
        METRICS,
        {
            "rows_in": read + label_rows + twins,
            "rows_out": chats.height,
            "removed": {rule: by_rule.pop(rule, 0) for rule in REMOVALS} | by_rule,
            "changed": {rule: changes.pop(rule, 0) for rule, where in cleaning.rules.items() if where} | changes,
            "rows_changed": cleaned.changed["id"].n_unique(),
            "sources": {
                name: {"rows_in": one.rows_in, "rows_out": dealt.kept.filter(pl.col("source") == name).height}
                for name, one in sources.items()
            },
            "label_rows_in": label_rows,
            "unanswerable_rows_made": twins,
            "unanswerable_rows_without_far_passage": shown.twins_not_made,
            "groups_of_several_rows": grouped.filter(pl.col("group").is_duplicated())["group"].n_unique(),
            "rows_in_largest_group": grouped.group_by("group").len()["len"].max(),
            "forced_categories": forced,
            **metrics_of(chats, tokenizer),
            "rows_without_passages_for_length": shown.without_passages,
            "retrieval": shown.recall,
            "instruct_data_seconds": time.perf_counter() - started,
        },
    )


def check_unique(chats: pl.DataFrame) -> None:
    """Stop where two chats have one id.

    Raises:
        InputError: names the first.
    """
    repeated = chats.filter(pl.col("id").is_duplicated())
    if repeated.height:
        id_ = repeated["id"][0]
        places = repeated.filter(pl.col("id") == id_)["origin"].to_list()
        raise InputError(
            f"two chats have the id {id_!r}, from {places}; give the sources of `instruct_data` names that those of "
            "`ingest` do not have, and no id the end `#unanswerable`"
        )


if __name__ == "__main__":
    run_stage(main)
