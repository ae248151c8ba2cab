"""Let one language model answer the test questions, and score it: `python -m stages.evaluate_generation <model>`.

Models are named in `generation_models`, each with its folder; `base` is `language_model`. Reads that folder,
`data/instruct/prompts.parquet` (the test questions in every mode) and the reward model if there is one; writes
`data/generations/<model>/answers.parquet` (every row with its scores), `metrics/evaluate_generation/<model>.json`,
`metrics/predictions/generation/<model>.json` (scores by question, for paired tests from git alone) and its cost. All
models get the same rows, and intervals are over the same resampled rows for every model; docs/generation.md says what
the modes and scores are.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from assay.compute.cost import peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_json, write_tables, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.results import run_id_now, write_metrics
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.core.skipped import leave_out, why_left_out
from assay.generation_metrics.answers import find_refusal, score_texts
from assay.generation_metrics.tasks import COPY_NEAREST, MODES, baseline_answers, score_modes
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import add_answers
from assay.language_models.checkpoint import CausalLM, Decoding, load_causal_lm
from assay.language_models.continuations import ask, tokenise_asked
from assay.language_models.named_models import load_generation_models
from assay.reward.model import load_reward_model, score_answers
from assay.statistics.predictions import hash_name

PROMPTS = Path("data/instruct/prompts.parquet")
REWARD_MODEL = Path("models/reward/model")
OUTPUT = Path("data/generations")
METRICS = Path("metrics/evaluate_generation")
PREDICTIONS = Path("metrics/predictions/generation")
COSTS = Path("metrics/cost/evaluate_generation")
BY_QUESTION = ("row", "group", "mode", "chrf", "refused", "label_right")
"""Columns of `PREDICTIONS`: keyed hashes of id and group, and scores, null where there are none. Its `copied` are those
of the shown passage nearest to the question."""


class Rows(Params):
    """Block `evaluate_generation.rows`: rows of each task at most; None: all."""

    answer: int | None = Field(ge=1)
    unanswerable: int | None = Field(ge=1)
    label: int | None = Field(ge=1)


class EvaluateGenerationParams(Params):
    """Section `evaluate_generation`."""

    rows: Rows
    answered: list[Literal["open", "retrieved", "closed", "unanswerable"]]
    rewarded: list[Literal["open", "retrieved", "closed", "unanswerable"]]
    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def sample_rows(prompts: pl.DataFrame, rows: Rows, seed: int) -> pl.DataFrame:
    """So many questions of each task, sampled by a hash of their ids, in all modes; in the order of the table."""
    draw = keyed_uniform(prompts["id"], seed, "evaluate_generation")
    place = pl.struct("draw", "id").rank("dense").over("task")
    drawn = prompts.with_columns(draw=draw).with_columns(place=place)
    limits = {task: count or prompts.height for task, count in rows.model_dump().items()}
    return drawn.filter(pl.col("place") <= pl.col("task").replace_strict(limits)).drop("draw", "place")


def answer_rows(
    model: CausalLM,
    tokenizer: Any,
    rows: pl.DataFrame,
    answered: list[str],
    decoding: Decoding,
    device: Device,
    seed: int,
) -> pl.DataFrame:
    """How likely the model finds the reference answer to each row (nats), and its own answer in the modes `answered`.

    Rows are of `PROMPT_SCHEMA`; of a label task the answer is the likeliest label.
    """
    parts = []
    for mode in (mode for mode in MODES if mode in rows["mode"]):
        part = rows.filter(pl.col("mode") == mode)
        references = part["answer"].to_list()
        choices = part["labels"].to_list() if mode == "label" else [[reference] for reference in references]
        asked = tokenise_asked(tokenizer, [chat[:-1] for chat in part["messages"].to_list()], choices)
        log_probabilities, generated = ask(model, tokenizer, asked, mode in answered, decoding, device, seed, mode)
        right = [of_row.index(reference) for of_row, reference in zip(choices, references, strict=True)]
        said: list[Any] = generated or [(None, None)] * part.height
        texts = [ids and tokenizer.decode(ids, skip_special_tokens=True).strip() for ids, _ in said]
        if mode == "label":
            texts = [of_row[best] for of_row, best in zip(choices, log_probabilities.argmax(axis=1), strict=True)]
        columns = ("id", "group", "mode", "task", "category", "question", "context", "nearest", "labels")
        parts.append(
            part.select(*columns, "answer_in_context", reference="answer").with_columns(
                answer=pl.Series(texts, dtype=pl.String),
                tokens=pl.Series([ids and len(ids) - ended for ids, ended in said], dtype=pl.Int64),
                ended=pl.Series([ended for _, ended in said], dtype=pl.Boolean),
                reference_tokens=pl.Series(
                    [len(one.continuations[place]) for one, place in zip(asked, right, strict=True)]
                ),
                negative_log_likelihood=pl.Series(-log_probabilities[range(part.height), right]),
            )
        )
    return pl.concat(parts)


def add_rewards(
    answers: pl.DataFrame, messages: pl.Series, modes: list[str], batch_size: int, device: Device
) -> pl.DataFrame:
    """Answers with their `reward` in the modes that get one, if there is a reward model.

    `messages` are the chats, each with the reference answer at its end.
    """
    has_reward = answers["mode"].is_in(modes) & answers["answer"].is_not_null()
    if not has_reward.any():
        return answers
    if not REWARD_MODEL.is_dir():
        print(f"evaluate_generation: no reward model in {REWARD_MODEL}: answers get no reward", file=sys.stderr)
        return answers
    model, tokenizer = load_reward_model(REWARD_MODEL, device.device)
    chats = add_answers((chat[:-1] for chat in messages.filter(has_reward)), answers["answer"].filter(has_reward))
    column = np.full(answers.height, np.nan)
    column[has_reward.to_numpy()] = score_answers(model, tokenizer, chats, batch_size, device, "rewards")
    return answers.with_columns(reward=pl.Series(column, nan_to_null=True))


def format_by_question(answers: pl.DataFrame, run_id: str | None) -> str:
    """The text of a file of `PREDICTIONS`: JSON, with a row a line."""
    parts = []
    for name, table in (("rows", answers), ("copied", baseline_answers(answers)[COPY_NEAREST])):
        rows = table.select("id", "group", "mode", pl.col("chrf").round(4), "refused", "exact_match").iter_rows()
        lines = sorted(json.dumps([hash_name(id_), hash_name(group), *scores]) for id_, group, *scores in rows)
        parts.append(f'"{name}": [\n' + ",\n".join(lines) + "\n]")
    return ",\n".join([f'{{"run_id": {json.dumps(run_id)}', f'"columns": {json.dumps(BY_QUESTION)}', *parts]) + "}\n"


def main() -> None:
    """Evaluate the model named on the command line."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate_generation", description=about)
    parser.add_argument("model", help="a name of `generation_models` in params.yaml, such as sft-lora")
    name = parser.parse_args().model
    models = load_generation_models()
    if name not in models:
        raise InputError(f"params.yaml: `generation_models` has no {name!r}; there are {', '.join(models)}")
    folder = Path(models[name])
    params = load_params("evaluate_generation", EvaluateGenerationParams)
    decoding = load_params("decoding", Decoding)
    arguments = load_params("template_arguments", TemplateArguments)
    seed = load_params("seed", int)
    if reason := why_left_out(folder):
        metrics, cost = (folder / f"{name}.json" for folder in (METRICS, COSTS))
        leave_out(f"evaluate_generation@{name}", reason, OUTPUT / name, metrics, {}, cost)
        write_json(PREDICTIONS / f"{name}.json", {"run_id": run_id_now(metrics), "left_out": reason})
        return
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    started = time.perf_counter()
    # Modes one after the other, as the answers come.
    rows = sample_rows(pl.read_parquet(PROMPTS), params.rows, seed)
    rows = pl.concat([rows.filter(pl.col("mode") == mode) for mode in MODES])
    # On CPU 4 bits would be unpacked at every pass; a GPU has less memory, and 4 bits are there to save it.
    model, tokenizer = load_causal_lm(folder, device.device, arguments, dequantised=device.device.type == "cpu")
    # The same draws for every model, where answers are sampled.
    own_seed = derived_seed(seed, "evaluate_generation") % 2**63
    loaded = time.perf_counter()
    answers = answer_rows(model, tokenizer, rows, [*params.answered], decoding, device, own_seed)
    answer_seconds = time.perf_counter() - loaded
    del model

    answers = score_texts(answers, find_refusal(answers))
    answers = add_rewards(answers, rows["messages"], [*params.rewarded], params.batch_size, device)
    scores = score_modes(answers, params.bootstrap_samples, partial(generator, seed, "evaluate_generation"))
    write_tables(OUTPUT / name, {"answers": answers})
    measured = {"rows": answers.height, **scores, **device.names()}
    write_metrics(METRICS / f"{name}.json", measured, "rows", "open.perplexity", "open.chrf", "label.exact_match")
    write_text(PREDICTIONS / f"{name}.json", format_by_question(answers, run_id_now(METRICS / f"{name}.json")))
    costs = {
        "tokens_per_second": float(answers["tokens"].sum()) / answer_seconds,
        "answer_seconds": answer_seconds,
        "seconds": time.perf_counter() - started,
        "peak_memory_mib": peak_memory_mib(device.device),
    }
    write_json(COSTS / f"{name}.json", costs)


if __name__ == "__main__":
    run_stage(main)
