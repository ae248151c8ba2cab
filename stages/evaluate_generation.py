"""Let one language model answer the test questions, and score it: `python -m stages.evaluate_generation <model>`.

Models are named in `generation_models`, each with its folder; `base` is `language_model`. Reads that folder,
`data/instruct/test.parquet`, the reward model if there is one, and the frozen encoder; writes
`data/generations/<model>/answers.parquet` (every answer with its scores), `metrics/evaluate_generation/<model>.json`
and its cost. It is the only stage of the generative track that reads the test split. All models get the same rows, and
intervals are over the same resampled rows for every model; docs/generation.md says what the scores are.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from assay.compute.cost import peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.core.skipped import leave_out, why_left_out
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.generation_metrics.answers import cosines, find_refusal, score_texts
from assay.generation_metrics.tasks import for_each_task, perplexity, task_scores
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import IGNORED, TokenisedChat, add_answers, tokenise_chats
from assay.language_models.checkpoint import CausalLM, Decoding, answer_likelihood, generate_answers, load_causal_lm
from assay.language_models.named_models import load_generation_models
from assay.reward.model import load_reward_model, score_answers
from assay.statistics.bootstrap import Floats, bootstrap_figures
from assay.statistics.metrics_dict import metrics_of

TEST = Path("data/instruct/test.parquet")
REWARD_MODEL = Path("models/reward/model")
OUTPUT = Path("data/generations")
METRICS = Path("metrics/evaluate_generation")
COSTS = Path("metrics/cost/evaluate_generation")


class Rows(Params):
    """Block `evaluate_generation.rows`: rows of each task at most."""

    answer: int = Field(ge=1)
    unanswerable: int = Field(ge=1)
    label: int = Field(ge=1)


class EvaluateGenerationParams(Params):
    """Section `evaluate_generation`."""

    rows: Rows
    general_texts: int = Field(ge=2)
    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def sample_rows(test: pl.DataFrame, rows: Rows, seed: int) -> pl.DataFrame:
    """So many rows of each task, sampled by a hash of their ids, in the order of the table."""
    drawn = test.with_columns(draw=keyed_uniform(test["id"], seed, "evaluate_generation"), place=pl.int_range(pl.len()))
    parts = [
        drawn.filter(pl.col("task") == task).sort("draw", "id").head(count) for task, count in rows.model_dump().items()
    ]
    return pl.concat(parts).sort("place").drop("draw", "place")


def sample_glosses(wordnet: Path, count: int, seed: int) -> list[str]:
    """Definitions of nouns, sampled by a hash: text of no task; an `InputError` if the folder holds no WordNet."""
    path = wordnet / "data.noun"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; `augment.wordnet` must be a folder of WordNet: `dvc repro fetch@wordnet`"
        )
    # Lines that begin with blanks are the licence.
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("  ")]
    word = pl.col("entry").str.split(" ").list.get(4).str.replace_all("_", " ")
    gloss = pl.col("entry").str.split_exact("| ", 1).struct.field("field_1").str.strip_chars()
    entries = pl.DataFrame({"entry": lines}).with_columns(text=pl.format("{}: {}", word, gloss))
    draws = keyed_uniform(entries["entry"], seed, "evaluate_generation", "glosses")
    return entries.with_columns(draw=draws).sort("draw", "entry")["text"].head(count).to_list()


def in_rows(values: Floats, where: pl.Series) -> pl.Series:
    """Values as a column, in the rows where a mask is true; null in the others."""
    column = np.full(len(where), np.nan)
    column[where.to_numpy()] = values
    return pl.Series(column, nan_to_null=True)


def answer_rows(
    model: CausalLM, tokenizer: Any, rows: pl.DataFrame, decoding: Decoding, batch_size: int, device: Device, seed: int
) -> pl.DataFrame:
    """The model's answer to each row, and how likely it finds the reference answer (nats)."""
    chats = rows["messages"].to_list()
    said = generate_answers(model, tokenizer, [chat[:-1] for chat in chats], decoding, device, seed, "answers")
    tokenised = tokenise_chats(tokenizer, chats, rows["without_loss"].to_list())
    likelihood = answer_likelihood(model, tokenised, tokenizer.pad_token_id, batch_size, device, "reference answers")
    return rows.select("id", "task", "category", "question", "context", reference="answer").with_columns(
        answer=pl.Series([one.text for one in said], dtype=pl.String),
        tokens=pl.Series([one.tokens for one in said], dtype=pl.Int64),
        ended=pl.Series([one.ended for one in said], dtype=pl.Boolean),
        reference_tokens=pl.Series(likelihood.tokens),
        negative_log_likelihood=pl.Series(-likelihood.log_probabilities),
    )


def score_general_text(
    model: CausalLM, tokenizer: Any, texts: list[str], batch_size: int, samples: int, device: Device, seed: int
) -> dict[str, float]:
    """Perplexity of the general text with its interval, and its texts."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    chats = [TokenisedChat([first, *ids], [IGNORED, *ids]) for ids in rows]
    likelihood = answer_likelihood(model, chats, tokenizer.pad_token_id, batch_size, device, "general text")
    losses, tokens = -likelihood.log_probabilities, likelihood.tokens.astype(np.float64)

    def measure(counts: Floats) -> dict[str, Floats]:
        return {"perplexity": perplexity(counts, losses, tokens)}

    random = generator(seed, "evaluate_generation", "general_text")
    return {"texts": len(texts), **metrics_of(bootstrap_figures(measure, len(texts), samples, random))}


def score_meaning(
    answers: pl.DataFrame, messages: pl.Series, embed: EmbedParams, batch_size: int, device: Device
) -> pl.DataFrame:
    """Answers with their `cosine` to the reference by the frozen encoder, and `reward`, if there is a reward model.

    `messages` are the chats, each with the reference answer at its end.
    """
    # Labels get neither: an answer to them is right or wrong.
    free = answers["task"] == "answer"
    said, meant = (answers[column].filter(free).to_list() for column in ("answer", "reference"))
    embedded, _ = embedded_texts([*said, *meant], embed, device)
    answers = answers.with_columns(cosine=in_rows(cosines(*np.split(embedded.embeddings, 2)), free))
    if not REWARD_MODEL.is_dir():
        print(f"evaluate_generation: no reward model in {REWARD_MODEL}: answers get no reward", file=sys.stderr)
        return answers
    model, tokenizer = load_reward_model(REWARD_MODEL, device.device)
    has_reward = answers["task"] != "label"
    chats = add_answers((chat[:-1] for chat in messages.filter(has_reward)), answers["answer"].filter(has_reward))
    reward = score_answers(model, tokenizer, chats, batch_size, device, "rewards")
    return answers.with_columns(reward=in_rows(reward, has_reward))


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
    embed = load_params("embed", EmbedParams)
    wordnet = Path(load_params("augment.wordnet", str))
    arguments = load_params("template_arguments", TemplateArguments)
    seed = load_params("seed", int)
    if reason := why_left_out(folder):
        metrics, cost = (folder / f"{name}.json" for folder in (METRICS, COSTS))
        leave_out(f"evaluate_generation@{name}", reason, OUTPUT / name, metrics, {}, cost)
        return
    texts = sample_glosses(wordnet, params.general_texts, seed)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    started = time.perf_counter()
    test = pl.read_parquet(TEST)
    rows = sample_rows(test, params.rows, seed)
    # On CPU 4 bits would be unpacked at every pass; a GPU has less memory, and 4 bits are there to save it.
    model, tokenizer = load_causal_lm(folder, device.device, arguments, dequantised=device.device.type == "cpu")
    # The same draws for every model, where answers are sampled.
    own_seed = derived_seed(seed, "evaluate_generation") % 2**63
    loaded = time.perf_counter()
    answers = answer_rows(model, tokenizer, rows, decoding, params.batch_size, device, own_seed)
    answer_seconds = time.perf_counter() - loaded
    general = score_general_text(model, tokenizer, texts, params.batch_size, params.bootstrap_samples, device, seed)
    del model

    answers = score_texts(answers, find_refusal(test))
    answers = score_meaning(answers, rows["messages"], embed, params.batch_size, device)
    scores = for_each_task(
        lambda task: task_scores(answers, task, params.bootstrap_samples, generator(seed, "evaluate_generation", task)),
        set(answers["task"]),
    )
    with output_folder(OUTPUT / name) as out:
        write_parquet(answers, out / "answers.parquet")
    measured = {"rows": answers.height, **scores, "general_text": general, **device.names()}
    write_metrics(METRICS / f"{name}.json", measured, "rows", "answer.perplexity", "answer.chrf", "label.exact_match")
    costs = {
        "tokens_per_second": float(answers["tokens"].sum()) / answer_seconds,
        "answer_seconds": answer_seconds,
        "seconds": time.perf_counter() - started,
        "peak_memory_mib": peak_memory_mib(device.device),
    }
    write_json(COSTS / f"{name}.json", costs)


if __name__ == "__main__":
    run_stage(main)
