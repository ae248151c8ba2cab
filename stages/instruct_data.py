"""Questions and answers of several files as one table of chats, some with the passages that a search would find.

Decides: which chats can be learnt from, which split each is in, and the context beside its question; docs/generation.md
says by what rules. Reads the files named in `instruct_data.sources`, below `instruct_data.path`, and for the label task
the splits of the classification track; writes `data/instruct/{train,validation,test}.parquet` (`CHAT_SCHEMA`),
`prompts.parquet` (the test questions in every mode that models are scored in, `PROMPT_SCHEMA`), and beside them
`removed.parquet` and `changed.parquet` (which says in `field` what changed), metrics and costs.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from transformers import AutoConfig, PreTrainedTokenizerBase

from assay.cleaning.rules import CleanParams
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.model_limits import require_positions, require_vocabulary
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_json, write_tables
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import counts_by_rule
from assay.core.results import write_metrics
from assay.duplicates.near_duplicates import IDENTICAL
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.instruction_data import groups
from assay.instruction_data.cleaning import clean_chats
from assay.instruction_data.context import add_context, add_given_context
from assay.instruction_data.distractors import TextVectors
from assay.instruction_data.formats import FIXES
from assay.instruction_data.label_task import make_label_chats
from assay.instruction_data.params import InstructDataParams
from assay.instruction_data.prompt_modes import make_prompts, texts_compared
from assay.instruction_data.read import Read, read_source
from assay.instruction_data.table import PROVENANCE, TokenLimit, remove_long_chats, summarise_chats
from assay.language_models.base_template import TemplateArguments, load_tokenizer
from assay.splitting.assignment import SPLITS, SplitParams
from assay.splitting.target_labels import read_test_rows, target_numbers

OUTPUT = Path("data/instruct")
METRICS = Path("metrics/optional/instruct_data.json")
COST = Path("metrics/cost/instruct_data.json")
LABEL_TRAIN = Path("data/label_errors/train.parquet")
LABEL_VALIDATION = Path("data/split/validation.parquet")

REMOVALS = (
    *FIXES,
    *("unsettled", "empty_text", "min_characters", "max_characters", "language"),
    *("exact_duplicate", "max_tokens", "rare_category"),
)
"""Rules that remove rows, in order, beside those of records that cannot be read."""


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
    columns = ("id", "text", "label", "split_group", "source", "origin", *PROVENANCE)
    return {name: part.select(columns) for name, part in parts.items()}


@dataclass(frozen=True)
class Sections:
    """The sections of the params by which chats are made, and the project seed."""

    instruct: InstructDataParams
    clean: CleanParams
    split: SplitParams
    embed: EmbedParams
    seed: int


def make_chats(
    sources: dict[str, Read],
    classified: dict[str, pl.DataFrame],
    sections: Sections,
    tokenizer: PreTrainedTokenizerBase,
    device: Device,
) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    """The tables by the names of their files, and the metrics.

    An `InputError` if no chat is left, a category is too rare, or two chats have one id.
    """
    params, key = sections.instruct, (sections.seed, "instruct_data")
    limit = TokenLimit(tokenizer, params.max_length_tokens)
    cleaned = clean_chats(pl.concat([one.records for one in sources.values()]), sections.clean)
    distinct = groups.remove_exact_duplicates(groups.add_turns(cleaned.records))
    prompt = params.context.prompt if params.context else None
    fitted = remove_long_chats(add_given_context(distinct.kept, prompt), limit)
    if not fitted.kept.height:
        raise InputError(f"{params.path}: no chat is left of {[one.file for one in params.sources]}; see the params")
    compared = groups.find_compared(fitted.kept)
    embedded = groups.embed_chats(fitted.kept, compared, sections.embed, device) if params.needs_encoder else None
    vectors, cut = embedded or (None, {})
    near = sections.clean.near_duplicates
    of_prompts = vectors.of(fitted.kept["prompt"].to_list()) if vectors else None
    # All refusals are the same, and would make near-duplicates of short questions.
    answers = pl.when(pl.col("task") == "unanswerable").then(pl.lit("")).otherwise("answer")
    grouping = fitted.kept.with_columns(answer=answers)
    of_rows = groups.group_chats(grouping, compared, near, of_prompts, params.min_question_cosine, device)
    grouped = fitted.kept.with_columns(group=of_rows)
    assigned, forced = groups.assign_splits(
        grouped, sections.split, Path(params.path), sections.seed, cut.get("prompt", 0)
    )
    shown = add_context(assigned.kept, params.context, vectors, near or IDENTICAL, limit, key)
    parts, label_rows = [shown.rows], 0
    removals = [*(one.removed for one in sources.values()), cleaned.removed, distinct.removed, fitted.removed]
    removals += [assigned.removed, shown.removed]
    if params.label_task:
        labelled = make_label_chats(classified, params.label_task, key)
        label_rows = labelled.height
        short = remove_long_chats(labelled.with_columns(prompt="question"), limit)
        parts.append(short.kept.select(shown.rows.columns))
        removals.append(short.removed)
    chats, removed = pl.concat(parts), pl.concat(removals)
    require_unique_ids(chats)

    twins = shown.rows.height - assigned.kept.height + shown.removed.height
    by_rule, changes = counts_by_rule(removed), counts_by_rule(cleaned.changed)
    in_groups = grouped.group_by("group").len()["len"]
    metrics = {
        "rows_in": sum(one.rows_in for one in sources.values()) + label_rows + twins,
        "rows_out": chats.height,
        "removed": {rule: by_rule.pop(rule, 0) for rule in REMOVALS} | by_rule,
        "changed": {rule: changes.pop(rule, 0) for rule, where in sections.clean.rules.items() if where} | changes,
        "rows_changed": cleaned.changed["id"].n_unique(),
        "sources": {
            name: {"rows_in": one.rows_in, "rows_out": assigned.kept.filter(source=name).height} | one.seen
            for name, one in sources.items()
        },
        "label_rows_in": label_rows,
        "unanswerable_rows_made": twins,
        "unanswerable_rows_without_far_passage": shown.twins_not_made,
        "groups_of_several_rows": int((in_groups > 1).sum()),
        "rows_in_largest_group": in_groups.max(),
        "cut_where_compared": cut,
        "forced_categories": forced,
        **summarise_chats(chats, tokenizer),
        "rows_without_passages_for_length": shown.without_passages,
    }
    tables = {name: chats.filter(pl.col("split") == name).drop("split") for name in SPLITS}
    tables["prompts"] = ask_in_every_mode(chats, classified, sections, device)
    retrieved = tables["prompts"].filter(mode="retrieved")
    metrics["retrieval"] = {"test_rows": retrieved.height, "test_rows_held": int(retrieved["answer_in_context"].sum())}
    return tables | {"removed": removed, "changed": cleaned.changed}, metrics


def ask_in_every_mode(
    chats: pl.DataFrame, classified: dict[str, pl.DataFrame], sections: Sections, device: Device
) -> pl.DataFrame:
    """The test rows in every mode; questions are embedded as `make ask` does, instructions of their source too."""
    vectors, context = None, sections.instruct.context
    if context and (texts := texts_compared(chats)):
        embeddings = embedded_texts(texts, sections.embed, device)[0].embeddings
        vectors = TextVectors({text: row for row, text in enumerate(texts)}, embeddings)
    labels: list[str] = []
    if sections.instruct.label_task:
        counts = classified["train"]["label"].value_counts().sort("count", "label", descending=[True, False])
        labels = counts["label"].to_list()
    return make_prompts(chats, context, vectors, labels)


def require_unique_ids(chats: pl.DataFrame) -> None:
    """Raise an `InputError` that names the first id of two chats."""
    repeated = chats.filter(pl.col("id").is_duplicated())
    if repeated.height:
        id_ = repeated["id"][0]
        places = repeated.filter(pl.col("id") == id_)["origin"].to_list()
        raise InputError(
            f"two chats have the id {id_!r}, from {places}; give the sources of `instruct_data` names that those of "
            "`ingest` do not have, and no id the end `#unanswerable`"
        )


def main() -> None:
    """Make the chats."""
    started = time.perf_counter()
    params = load_params("instruct_data", InstructDataParams)
    clean, split = load_params("clean", CleanParams), load_params("split", SplitParams)
    sections = Sections(params, clean, split, load_params("embed", EmbedParams), load_params("seed", int))
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    base = load_params("language_model", str)
    tokenizer = load_tokenizer(base, base, load_params("template_arguments", TemplateArguments))
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    require_positions(config, params, "instruct_data")
    require_vocabulary(tokenizer, config, base)
    classified = read_label_rows() if params.label_task else {}
    sources = {source.name: read_source(source, number, params) for number, source in enumerate(params.sources)}
    for name, one in sources.items():
        seen = {"rows": one.rows_in, "removed": counts_by_rule(one.removed)} | one.seen
        shown = ", ".join(f"{what} {value}" for what, value in seen.items() if value)
        print(f"instruct_data: {name}: {shown}", file=sys.stderr)
    tables, metrics = make_chats(sources, classified, sections, tokenizer, device)
    write_tables(OUTPUT, tables)
    write_metrics(METRICS, metrics, "rows.*.answer")
    write_json(COST, {"instruct_data_seconds": time.perf_counter() - started})


if __name__ == "__main__":
    run_stage(main)
