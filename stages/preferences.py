"""Make preference pairs: of two answers to one prompt, the better and the worse.

Where the pairs come from is kept, as `pair_source`; docs/generation.md says what each source is, and of which prompts
pairs are made.

Reads: data/instruct/{train,validation,test}.parquet, data/preferences.csv, the base model
Writes: data/preferences/{train,held_out,removed}.parquet, metrics/optional/preferences.json
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from assay.compute.device import Compute, Device, prepare_device
from assay.compute.model_limits import require_positions
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_json, write_tables
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import Filtered, counts_by_rule
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, seed_32
from assay.human_review.preference_judgements import Preference, check_prompt_ids, read_preferences
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import tokenise_chats
from assay.language_models.checkpoint import generate_answers, load_causal_lm
from assay.preference_data import pairs

INSTRUCT = Path("data/instruct")
OUTPUT = Path("data/preferences")
METRICS = Path("metrics/optional/preferences.json")
COST = Path("metrics/cost/preferences.json")

SPLITS = {"train": "train", "validation": "held_out"}
"""Split of the chats → table of the pairs."""


class PreferencesParams(Params):
    """Section `preferences` of `params.yaml`."""

    path: str
    max_length_tokens: int = Field(ge=8, le=1_048_576)
    sibling_answer: pairs.SiblingAnswer
    base_answer: pairs.BaseAnswer
    altered_answer: pairs.AlteredAnswer


def make_pairs(
    tables: dict[str, pl.DataFrame],
    lines: Sequence[Preference],
    split_of: dict[str, str],
    params: PreferencesParams,
    model: Any,
    tokenizer: Any,
    device: Device,
    seed: int,
) -> dict[str, Filtered]:
    """The pairs of each split of the chats, and the candidates that are none; an `InputError` if a split has no pair.

    `split_of` is by chat id, those of the test split among them.
    """

    def too_long(whole: list[list[Any]]) -> list[bool]:
        tokenised = tokenise_chats(tokenizer, whole, longest=params.max_length_tokens)
        return [len(chat.input_ids) > params.max_length_tokens for chat in tokenised]

    key = (seed, "preferences")
    wanted = {"train": params.base_answer.train_prompts, "validation": params.base_answer.held_out_prompts}
    made = {}
    for split, table in tables.items():
        chats = table.to_dicts()
        prompts = pairs.sample_base_prompts(chats, wanted[split], key)
        questions = [chat["messages"][:-1] for chat in prompts]
        questions_of = {chat["id"]: chat["question"] for chat in chats}
        own_seed = seed_32(derived_seed(*key, split))
        decoding = params.base_answer.decoding
        said = generate_answers(model, tokenizer, questions, decoding, device, own_seed, "base answers")
        candidates = [
            *pairs.make_judged_pairs(lines, split_of, split, params.path, questions_of),
            *pairs.make_sibling_pairs(chats, params.sibling_answer, key),
            *pairs.make_base_pairs(prompts, said, params.base_answer),
            *pairs.make_altered_pairs(chats, params.altered_answer, key),
        ]
        checked = pairs.check_pairs(candidates, {chat["id"]: chat for chat in chats}, too_long)
        if checked.kept.is_empty():
            raise InputError(
                f"{INSTRUCT / split}.parquet: no preference pair can be made of its {table.height} chats"
                f" (reasons: {counts_by_rule(checked.removed)}); raise `preferences.max_length_tokens` or the numbers"
                f" of pairs, or add judgements to {params.path}"
            )
        made[split] = checked
    return made


def main() -> None:
    """Make the pairs."""
    params = load_params("preferences", PreferencesParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    tables = {split: pl.read_parquet(INSTRUCT / f"{split}.parquet") for split in SPLITS}
    # Of the test split the ids alone, so that judgements on it are known for what they are.
    ids = {split: table["id"] for split, table in tables.items()}
    ids["test"] = pl.read_parquet(INSTRUCT / "test.parquet", columns=["id"])["id"]
    split_of = {row: split for split, of_split in ids.items() for row in of_split}
    lines = read_preferences(Path(params.path))
    check_prompt_ids(lines, split_of, Path(params.path))
    without_hash = sum(not line.question_hash for line in lines)
    arguments = load_params("template_arguments", TemplateArguments)
    model, tokenizer = load_causal_lm(Path(load_params("language_model", str)), device.device, arguments)
    require_positions(model.config, params, "preferences")
    started = time.perf_counter()
    made = make_pairs(tables, lines, split_of, params, model, tokenizer, device, seed)
    seconds = time.perf_counter() - started

    removed = pl.concat([one.removed for one in made.values()])
    write_tables(OUTPUT, {name: made[split].kept for split, name in SPLITS.items()} | {"removed": removed})
    if lines:
        changed = f"questions changed: {counts_by_rule(removed).get('prompt_changed', 0)}, unknown: {without_hash}"
        print(f"preferences: {params.path}: {len(lines)} judgements; {changed}", file=sys.stderr)
    rows_out = sum(one.kept.height for one in made.values())
    metrics: dict[str, Any] = {
        "rows_in": rows_out + removed.height,
        "rows_out": rows_out,
        "removed": counts_by_rule(removed),
        "judgements": len(lines),
        "judgements_without_question_hash": without_hash,
    }
    for split, name in SPLITS.items():
        kept = made[split].kept
        by_source = dict(kept["pair_source"].value_counts().sort("pair_source").iter_rows())
        metrics[name] = {"pairs": kept.height, "prompts": kept["prompt_id"].n_unique(), "by_source": by_source}
    write_metrics(METRICS, metrics, "train.pairs", "held_out.pairs")
    write_json(COST, {"preferences_seconds": seconds})


if __name__ == "__main__":
    run_stage(main)
