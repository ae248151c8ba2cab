"""Make preference pairs: of two answers to one prompt, the better and the worse.

Where the pairs come from is kept, as `pair_source`:
- `human`: what people preferred side by side (`data/preferences.csv`; `make review ARGS="--pairs A B"`);
- `sibling_answer`: the true answer against one of another question: of another category or the same, or a passage that
  is shown with the prompt and does not answer it; for a prompt that cannot be answered, the refusal against one of
  those, and for one that can, the true answer against a refusal; for a label, the right one against a wrong one;
- `base_answer`: the true answer, or the refusal, against what the base model says by itself;
- `altered_answer`: the true answer against itself with a number, a date or a negation changed
  (`assay/preference_data/altered_answers.py`).

Train prompts make `train.parquet`, validation prompts `held_out.parquet`. A judgement on a test prompt is a figure of
the test alone (`evaluate_generation`): it is rejected here, so that no model ever learns from it. A made answer comes
from the split of its prompt, so that no held-out pair has a text that was trained on.

The sides are not to be told by their length alone. A base model rambles on; with `match_length` its answer ends with
the sentence that brings it closest to the length of the better one. A refusal, always short, is as often the better
side as the worse. `metrics/optional/preferences.json` has the lengths of both sides by source.

Reads: data/instruct/{train,validation,test}.parquet, data/preferences.csv, the base model
Writes: data/preferences/{train,held_out,removed}.parquet, metrics/optional/preferences.json
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.human_review.preference_judgements import Preference, read_preferences
from assay.language_models.chat_template import ANSWERING, MESSAGES, tokenised_chats
from assay.language_models.checkpoint import Decoding, generated, load_causal_lm
from assay.preference_data.altered_answers import altered_answer

INSTRUCT = Path("data/instruct")
OUTPUT = Path("data/preferences")
METRICS = Path("metrics/optional/preferences.json")

SPLITS = {"train": "train", "validation": "held_out"}
"""Split of the chats → table of the pairs."""
PAIR_SOURCES = ("human", "sibling_answer", "base_answer", "altered_answer")
COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "prompt_id": pl.String,
    "category": pl.String,
    "pair_source": pl.String,
    "messages": MESSAGES,
    "chosen": pl.String,
    "rejected": pl.String,
    "detail": pl.String,
}
PAIRS_SCHEMA = pl.Schema(COLUMNS)
SENTENCE = re.compile(r".+?(?:[.!?](?=\s|$)|\n|$)\s*", re.DOTALL)

SiblingKind = Literal["other_category", "same_category", "shown_passage"]


class SiblingAnswer(Params):
    """Block `sibling_answer`."""

    pairs_per_prompt: int = Field(ge=0, le=100)
    kinds: list[SiblingKind] = Field(min_length=1)
    refused_fraction: float = Field(ge=0, le=1)
    label_fraction: float = Field(ge=0, le=1)


class BaseAnswer(Params):
    """Block `base_answer`."""

    train_prompts: int = Field(ge=0, le=10_000_000)
    held_out_prompts: int = Field(ge=0, le=10_000_000)
    max_similarity: float = Field(gt=0, le=1)
    match_length: bool
    decoding: Decoding


class AlteredAnswer(Params):
    """Block `altered_answer`."""

    pairs_per_prompt: int = Field(ge=0, le=100)
    needs_context: bool


class PreferencesParams(Params):
    """Section `preferences` of `params.yaml`."""

    path: str
    max_length_tokens: int = Field(ge=8, le=1_048_576)
    sibling_answer: SiblingAnswer
    base_answer: BaseAnswer
    altered_answer: AlteredAnswer


@dataclass(frozen=True)
class Candidate:
    """A pair before the checks, or the reason why there is none (`reject`)."""

    id: str
    prompt_id: str
    pair_source: str
    chosen: str
    rejected: str
    detail: str
    reject: str | None = None


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split, and what became of the other candidates (`REMOVED_SCHEMA`)."""

    kept: pl.DataFrame
    removed: pl.DataFrame


Chat = dict[str, Any]
"""A row of the chat table."""


# The pairs of people


def judged_pairs(lines: Sequence[Preference], split_of: dict[str, str], split: str, path: str) -> Iterator[Candidate]:
    """What people preferred on the prompts of a split; lines on one pair of answers are votes, and most votes count.

    Lines on prompts of no split, and on test prompts, are told of with the train split.

    Args:
        lines: of the file.
        split_of: split of each chat's id.
        split: whose pairs are wanted.
        path: of the file, for the ids of lines that make no pair.
    """
    votes: dict[tuple[str, frozenset[str]], list[Preference]] = {}
    for line in lines:
        where = split_of.get(line.prompt_id)
        if where is None or where == "test":
            if split == "train":
                yield _judged(line, f"{path}:{line.line}", "unknown_prompt" if where is None else "test_prompt")
        elif where == split:
            if not (line.answer_a.strip() and line.answer_b.strip()):
                yield _judged(line, f"{path}:{line.line}", "empty_side")
            elif line.answer_a.strip() == line.answer_b.strip():
                yield _judged(line, f"{path}:{line.line}", "equal_sides")
            else:
                votes.setdefault((line.prompt_id, line.answers), []).append(line)
    for (prompt_id, answers), group in votes.items():
        balance = dict.fromkeys((group[0].answer_a, group[0].answer_b), 0)
        for line in group:
            if line.favourite is not None:
                balance[line.favourite] += 1
        worse, better = sorted(balance, key=lambda answer: balance[answer])
        tied = balance[worse] == balance[better]
        # One line stands for the pair, and the others are counted beside it.
        for line in group if tied else group[1:]:
            yield _judged(line, f"{path}:{line.line}", "tie" if tied else "same_pair")
        if not tied:
            detail = f"{balance[better]} of {len(group)} judgements"
            key = f"{derived_seed(0, *sorted(answers)):016x}"
            yield Candidate(f"{prompt_id}~human~{key}", prompt_id, "human", better, worse, detail)


def _judged(line: Preference, row_id: str, reject: str) -> Candidate:
    return Candidate(row_id, line.prompt_id, "human", line.answer_a, line.answer_b, line.preferred, reject)


# The pairs made by rule


def sibling_pairs(chats: Sequence[Chat], params: SiblingAnswer, seed: int) -> Iterator[Candidate]:
    """The true answer of each chat against answers of other questions of its split."""
    answers = [chat for chat in chats if chat["task"] == "answer"]
    refusals = sorted({chat["answer"] for chat in chats if chat["task"] == "unanswerable"})
    labels = sorted({chat["answer"] for chat in chats if chat["task"] == "label"})
    chosen = keyed_uniform(pl.Series([chat["id"] for chat in chats], dtype=pl.String), seed, "preferences", "label")
    for chat, draw in zip(chats, chosen, strict=True):
        if chat["task"] == "label" and draw >= params.label_fraction:
            continue
        for number in range(params.pairs_per_prompt):
            random = generator(seed, "preferences", "sibling", chat["id"], str(number))
            if chat["task"] == "label":
                others = [(label, "label") for label in labels if label != chat["answer"]]
            else:
                kind = params.kinds[int(random.integers(len(params.kinds)))]
                others = _siblings(chat, answers, kind)
                if not others and "other_category" in params.kinds:
                    others = _siblings(chat, answers, "other_category")
            yield _drawn(chat, f"sibling~{number}", others, random)
    if not refusals:
        return
    draws = keyed_uniform(pl.Series([chat["id"] for chat in answers], dtype=pl.String), seed, "preferences", "refused")
    for chat, draw in zip(answers, draws, strict=True):
        if draw < params.refused_fraction:
            random = generator(seed, "preferences", "refusal", chat["id"])
            yield _drawn(chat, "sibling~refusal", [(refusal, "refusal") for refusal in refusals], random)


def _siblings(chat: Chat, answers: Sequence[Chat], kind: SiblingKind) -> list[tuple[str, str]]:
    """Answers that do not answer a chat, each with what it is."""
    if kind == "shown_passage":
        own = _own_id(chat)
        shown = zip(chat["context"], chat["context_ids"], strict=True)
        return [(text, f"shown_passage {row}") for text, row in shown if row != own and text != chat["answer"]]
    return [
        (other["answer"], f"{kind} {other['id']}")
        for other in answers
        if other["group"] != chat["group"] and (other["category"] == chat["category"]) == (kind == "same_category")
    ]


def _own_id(chat: Chat) -> str:
    """Id of the row whose answer a chat is about."""
    return str(chat["id"]).removesuffix("#unanswerable")


def _drawn(chat: Chat, what: str, others: Sequence[tuple[str, str]], random: np.random.Generator) -> Candidate:
    row_id = f"{chat['id']}~{what}"
    if not others:
        return Candidate(row_id, chat["id"], "sibling_answer", chat["answer"], "", "", "no_sibling")
    text, detail = others[int(random.integers(len(others)))]
    return Candidate(row_id, chat["id"], "sibling_answer", chat["answer"], text, detail)


def altered_pairs(chats: Sequence[Chat], params: AlteredAnswer, seed: int) -> Iterator[Candidate]:
    """The true answer of each chat against the same with a number, a date or a negation changed."""
    for chat in chats:
        if chat["task"] != "answer" or (params.needs_context and not chat["answer_in_context"]):
            continue
        made: set[str] = set()
        for number in range(params.pairs_per_prompt):
            row_id = f"{chat['id']}~altered~{number}"
            changed = altered_answer(chat["answer"], generator(seed, "preferences", "alter", chat["id"], str(number)))
            if changed is None or changed.text in made:
                yield Candidate(row_id, chat["id"], "altered_answer", chat["answer"], "", "", "nothing_to_alter")
                continue
            made.add(changed.text)
            detail = f"{changed.kind}: {changed.before} → {changed.after}"
            yield Candidate(row_id, chat["id"], "altered_answer", chat["answer"], changed.text, detail)


def base_prompts(chats: Sequence[Chat], count: int, seed: int) -> list[Chat]:
    """The chats that the base model answers: drawn by key from those with an answer in words, or with none."""
    asked = [chat for chat in chats if chat["task"] != "label"]
    draws = keyed_uniform(pl.Series([chat["id"] for chat in asked], dtype=pl.String), seed, "preferences", "base")
    order = np.argsort(draws.to_numpy(), kind="stable")[:count]
    return [asked[place] for place in sorted(order)]


def base_pairs(chats: Sequence[Chat], said: Sequence[str], params: BaseAnswer) -> Iterator[Candidate]:
    """The true answers against what the base model said of the same prompts."""
    for chat, text in zip(chats, said, strict=True):
        sentences = whole_sentences(text, len(chat["answer"])) if params.match_length else text
        similarity = max(likeness(text, chat["answer"]), likeness(sentences, chat["answer"]))
        reject = "like_the_true_answer" if similarity > params.max_similarity else None
        cut = "" if sentences == text else f", {len(sentences)} of {len(text)} characters"
        detail = f"likeness {similarity:.2f}{cut}"
        yield Candidate(f"{chat['id']}~base", chat["id"], "base_answer", chat["answer"], sentences, detail, reject)


def likeness(one: str, other: str) -> float:
    """How alike two answers are: 1 with the same words in the same order, 0 without a common word.

    Ratcliff & Metzener (1988): twice the words in the longest common runs, by the words of both.
    """
    first, second = ([str(word) for word in re.findall(r"\w+", text.lower())] for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def whole_sentences(text: str, characters: int) -> str:
    """The beginning of a text that comes closest to a length and ends with a sentence; at least the first one."""
    ends = [match.end() for match in SENTENCE.finditer(text)]
    starts = [text[:end].strip() for end in ends]
    finished = [start for start in starts if start and start[-1] in ".!?"]
    return min(finished or [text.strip()], key=lambda start: abs(len(start) - characters))


# The checks


def checked(
    candidates: Sequence[Candidate], chats: dict[str, Chat], too_long: Callable[[list[list[Any]]], list[bool]]
) -> Pairs:
    """The candidates that can be learnt from, and why the others cannot.

    Args:
        candidates: of one split.
        chats: of the split, by id.
        too_long: of whole chats, whether each has too many tokens.
    """
    rejects: list[str | None] = []
    whole: list[list[Any]] = []
    for one in candidates:
        reject = one.reject
        if reject is None and not (one.chosen.strip() and one.rejected.strip()):
            reject = "empty_side"
        if reject is None and one.chosen.strip() == one.rejected.strip():
            reject = "equal_sides"
        rejects.append(reject)
        if reject is None:
            prompt = chats[one.prompt_id]["messages"][:-1]
            whole += [[*prompt, {"role": ANSWERING, "content": side}] for side in (one.chosen, one.rejected)]
    lengths = iter(too_long(whole))
    rejects = ["max_tokens" if reject is None and any([next(lengths), next(lengths)]) else reject for reject in rejects]
    kept = [
        {
            "id": one.id,
            "prompt_id": one.prompt_id,
            "category": chats[one.prompt_id]["category"],
            "pair_source": one.pair_source,
            "messages": chats[one.prompt_id]["messages"][:-1],
            "chosen": one.chosen.strip(),
            "rejected": one.rejected.strip(),
            "detail": one.detail,
        }
        for one, reject in zip(candidates, rejects, strict=True)
        if reject is None
    ]
    removed = [
        {"id": one.id, "rule": reject, "before": f"{one.chosen}\n---\n{one.rejected}", "after": None}
        for one, reject in zip(candidates, rejects, strict=True)
        if reject is not None
    ]
    return Pairs(pl.DataFrame(kept, schema=PAIRS_SCHEMA), pl.DataFrame(removed, schema=REMOVED_SCHEMA))


def side_lengths(pairs: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Words of both sides in the mean, and how often the better one is the longer, over all and by source."""
    words = pairs.select(
        "pair_source",
        chosen=pl.col("chosen").str.count_matches(r"\S+"),
        rejected=pl.col("rejected").str.count_matches(r"\S+"),
    )
    parts = {"all": words} | {source: words.filter(pl.col("pair_source") == source) for source in PAIR_SOURCES}
    return {
        name: {
            "pairs": part.height,
            "chosen_words": float(part["chosen"].mean()),  # type: ignore[arg-type]
            "rejected_words": float(part["rejected"].mean()),  # type: ignore[arg-type]
            "chosen_longer": float((part["chosen"] > part["rejected"]).mean()),  # type: ignore[arg-type]
            "equal_length": float((part["chosen"] == part["rejected"]).mean()),  # type: ignore[arg-type]
        }
        for name, part in parts.items()
        if part.height
    }


def counts(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, in alphabetical order."""
    table = values.value_counts().sort(values.name)
    return {str(name): int(number) for name, number in table.iter_rows()}


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
    model, tokenizer = load_causal_lm(Path(load_params("language_model", str)), device.device)

    def too_long(whole: list[list[Any]]) -> list[bool]:
        return [len(chat.input_ids) > params.max_length_tokens for chat in tokenised_chats(tokenizer, whole)]

    made: dict[str, Pairs] = {}
    asked = {"train": params.base_answer.train_prompts, "validation": params.base_answer.held_out_prompts}
    started = time.perf_counter()
    for split, table in ((split, tables[split]) for split in SPLITS):
        chats = table.to_dicts()
        prompts = base_prompts(chats, asked[split], seed)
        said = _said(model, tokenizer, prompts, params.base_answer, device, derived_seed(seed, "preferences", split))
        candidates = [
            *judged_pairs(lines, split_of, split, params.path),
            *sibling_pairs(chats, params.sibling_answer, seed),
            *base_pairs(prompts, said, params.base_answer),
            *altered_pairs(chats, params.altered_answer, seed),
        ]
        made[split] = checked(candidates, {chat["id"]: chat for chat in chats}, too_long)
    seconds = time.perf_counter() - started

    for split, pairs in made.items():
        if pairs.kept.is_empty():
            raise InputError(
                f"{INSTRUCT / split}.parquet: no preference pair can be made of its {tables[split].height} chats"
                f" (reasons: {counts(pairs.removed['rule'])}); raise `preferences.max_length_tokens` or the numbers of"
                " pairs, or add judgements to " + params.path
            )
    removed = pl.concat([pairs.removed for pairs in made.values()])
    with output_folder(OUTPUT) as folder:
        for split, name in SPLITS.items():
            write_parquet(made[split].kept, folder / f"{name}.parquet")
        write_parquet(removed, folder / "removed.parquet")
    rows_out = sum(pairs.kept.height for pairs in made.values())
    write_json(
        METRICS,
        {
            "rows_in": rows_out + removed.height,
            "rows_out": rows_out,
            "removed": counts(removed["rule"]),
            "judgements": len(lines),
            **{
                name: {
                    "pairs": made[split].kept.height,
                    "prompts": made[split].kept["prompt_id"].n_unique(),
                    "by_source": counts(made[split].kept["pair_source"]),
                    "by_alteration": counts(
                        made[split]
                        .kept.filter(pl.col("pair_source") == "altered_answer")["detail"]
                        .str.extract(r"^(\w+):")
                    ),
                    "lengths": side_lengths(made[split].kept),
                }
                for split, name in SPLITS.items()
            },
            "seconds": seconds,
        },
    )


def _said(
    model: Any, tokenizer: Any, prompts: Sequence[Chat], params: BaseAnswer, device: Device, seed: int
) -> list[str]:
    """What the base model says of prompts."""
    if not prompts:
        return []
    chats = [chat["messages"][:-1] for chat in prompts]
    return generated(model, tokenizer, chats, params.decoding, device, seed % 2**32, "base answers")


if __name__ == "__main__":
    run_stage(main)
