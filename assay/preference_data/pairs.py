"""Pairs of a better and a worse answer to one prompt: what people preferred, and what is made by rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from assay.core import row_ids
from assay.core.params import Params
from assay.core.removed_rows import REMOVED_SCHEMA, Filtered
from assay.core.seeds import SeedKey, derived_seed, generator, keyed_uniform
from assay.human_review.preference_judgements import Preference
from assay.language_models.chat_template import MESSAGES, add_answers
from assay.language_models.checkpoint import Decoding
from assay.preference_data.altered_answers import alter_answer

PAIRS_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("id", "prompt_id", "category", "pair_source"), pl.String()),
        "messages": MESSAGES,
        **dict.fromkeys(("chosen", "rejected", "detail"), pl.String()),
    }
)
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
    decoding: Decoding


class AlteredAnswer(Params):
    """Block `altered_answer`."""

    pairs_per_prompt: int = Field(ge=0, le=100)
    needs_context: bool


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


Chat = dict[str, Any]
"""A row of the chat table."""


def make_judged_pairs(
    lines: Sequence[Preference], split_of: dict[str, str], split: str, path: str, questions: dict[str, str]
) -> Iterator[Candidate]:
    """What people preferred on the prompts of a split; lines on one pair of answers are votes, and most votes count.

    Lines on prompts of no split, and on test prompts, are rejected with the train split. `split_of` is by chat id, and
    so are the `questions` of the split.
    """
    votes: dict[tuple[str, frozenset[str]], list[Preference]] = {}
    for line in lines:
        where = split_of.get(line.prompt_id)
        if where is None or where == "test":
            if split == "train":
                yield _judged(line, f"{path}:{line.line}", "unknown_prompt" if where is None else "test_prompt")
        elif where == split:
            is_of_prompt = line.is_of(questions[line.prompt_id])
            if fault := _side_fault(line.answer_a, line.answer_b) if is_of_prompt else "prompt_changed":
                yield _judged(line, f"{path}:{line.line}", fault)
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
            yield Candidate(row_ids.variant(prompt_id, "human", key), prompt_id, "human", better, worse, detail)


def _side_fault(one: str, other: str) -> str | None:
    if not (one.strip() and other.strip()):
        return "empty_side"
    return "equal_sides" if one.strip() == other.strip() else None


def _judged(line: Preference, row_id: str, reject: str) -> Candidate:
    return Candidate(row_id, line.prompt_id, "human", line.answer_a, line.answer_b, line.preferred, reject)


def make_sibling_pairs(chats: Sequence[Chat], params: SiblingAnswer, key: SeedKey) -> Iterator[Candidate]:
    """The true answer of each chat against answers of other questions of its split."""
    answers = [chat for chat in chats if chat["task"] == "answer"]
    refusals = sorted({chat["answer"] for chat in chats if chat["task"] == "unanswerable"})
    labels = sorted({chat["answer"] for chat in chats if chat["task"] == "label"})
    chosen = keyed_uniform(pl.Series([chat["id"] for chat in chats], dtype=pl.String), *key, "label")
    for chat, draw in zip(chats, chosen, strict=True):
        if chat["task"] == "label" and draw >= params.label_fraction:
            continue
        for number in range(params.pairs_per_prompt):
            random = generator(*key, "sibling", chat["id"], str(number))
            if chat["task"] == "label":
                others = [(label, "label") for label in labels if label != chat["answer"]]
            else:
                kind = params.kinds[int(random.integers(len(params.kinds)))]
                others = _siblings(chat, answers, kind)
                if not others and "other_category" in params.kinds:
                    others = _siblings(chat, answers, "other_category")
            yield _draw(row_ids.variant(chat["id"], "sibling", number), chat, others, random)
    if not refusals:
        return
    draws = keyed_uniform(pl.Series([chat["id"] for chat in answers], dtype=pl.String), *key, "refused")
    for chat, draw in zip(answers, draws, strict=True):
        if draw < params.refused_fraction:
            random = generator(*key, "refusal", chat["id"])
            others = [(one, "refusal") for one in refusals]
            yield _draw(row_ids.variant(chat["id"], "sibling", "refusal"), chat, others, random)


def _siblings(chat: Chat, answers: Sequence[Chat], kind: SiblingKind) -> list[tuple[str, str]]:
    """Answers that do not answer a chat, each with what it is."""
    if kind == "shown_passage":
        own = row_ids.answerable(chat["id"])
        shown = zip(chat["context"], chat["context_ids"], strict=True)
        return [(text, f"shown_passage {row}") for text, row in shown if row != own and text != chat["answer"]]
    return [
        (other["answer"], f"{kind} {other['id']}")
        for other in answers
        if other["group"] != chat["group"] and (other["category"] == chat["category"]) == (kind == "same_category")
    ]


def _draw(row_id: str, chat: Chat, others: Sequence[tuple[str, str]], random: np.random.Generator) -> Candidate:
    text, detail = others[int(random.integers(len(others)))] if others else ("", "")
    reject = None if others else "no_sibling"
    return Candidate(row_id, chat["id"], "sibling_answer", chat["answer"], text, detail, reject)


def make_altered_pairs(chats: Sequence[Chat], params: AlteredAnswer, key: SeedKey) -> Iterator[Candidate]:
    """The true answer of each chat against the same with a number, a date or a negation changed."""
    for chat in chats:
        if chat["task"] != "answer" or (params.needs_context and not chat["answer_in_context"]):
            continue
        made: set[str] = set()
        for number in range(params.pairs_per_prompt):
            row_id = row_ids.variant(chat["id"], "altered", number)
            changed = alter_answer(chat["answer"], generator(*key, "alter", chat["id"], str(number)))
            if changed is None or changed.text in made:
                yield Candidate(row_id, chat["id"], "altered_answer", chat["answer"], "", "", "nothing_to_alter")
                continue
            made.add(changed.text)
            detail = f"{changed.kind}: {changed.before} → {changed.after}"
            yield Candidate(row_id, chat["id"], "altered_answer", chat["answer"], changed.text, detail)


def sample_base_prompts(chats: Sequence[Chat], count: int, key: SeedKey) -> list[Chat]:
    """The chats that the base model answers: sampled by a hash from those with an answer in words, or with none."""
    asked = [chat for chat in chats if chat["task"] != "label"]
    draws = keyed_uniform(pl.Series([chat["id"] for chat in asked], dtype=pl.String), *key, "base")
    order = np.argsort(draws.to_numpy(), kind="stable")[:count]
    return [asked[place] for place in sorted(order)]


def make_base_pairs(chats: Sequence[Chat], said: Sequence[str], params: BaseAnswer) -> Iterator[Candidate]:
    """The true answers against those of the base model to the same prompts."""
    for chat, text in zip(chats, said, strict=True):
        sentences = cut_to_sentences(text, len(chat["answer"]))
        similarity = max(word_similarity(text, chat["answer"]), word_similarity(sentences, chat["answer"]))
        reject = "like_the_true_answer" if similarity > params.max_similarity else None
        cut = "" if sentences == text else f", {len(sentences)} of {len(text)} characters"
        detail = f"likeness {similarity:.2f}{cut}"
        row_id = row_ids.variant(chat["id"], "base")
        yield Candidate(row_id, chat["id"], "base_answer", chat["answer"], sentences, detail, reject)


def word_similarity(one: str, other: str) -> float:
    """How similar two answers are: 1 with the same words in the same order, 0 without a common word.

    Ratcliff & Metzener (1988): twice the words in the longest common runs, by the words of both.
    """
    first, second = ([str(word) for word in re.findall(r"\w+", text.lower())] for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def cut_to_sentences(text: str, characters: int) -> str:
    """The beginning of a text that comes closest to a length and ends with a sentence; at least the first one."""
    ends = [match.end() for match in SENTENCE.finditer(text)]
    starts = [text[:end].strip() for end in ends]
    finished = [start for start in starts if start and start[-1] in ".!?"]
    return min(finished or [text.strip()], key=lambda start: abs(len(start) - characters))


def check_pairs(
    candidates: Sequence[Candidate], chats: dict[str, Chat], too_long: Callable[[list[list[Any]]], list[bool]]
) -> Filtered:
    """The candidates that can be learnt from, and why the others cannot; `too_long` is asked of whole chats."""
    rejects = [one.reject or _side_fault(one.chosen, one.rejected) for one in candidates]
    whole: list[list[Any]] = []
    for one, reject in zip(candidates, rejects, strict=True):
        if reject is None:
            prompt = chats[one.prompt_id]["messages"][:-1]
            whole += add_answers([prompt, prompt], [one.chosen, one.rejected])
    lengths = iter(too_long(whole))
    rejects = ["max_tokens" if reject is None and any([next(lengths), next(lengths)]) else reject for reject in rejects]
    kept, removed = [], []
    for one, reject in zip(candidates, rejects, strict=True):
        if reject is not None:
            removed.append((one.id, reject, f"{one.chosen}\n---\n{one.rejected}", None))
            continue
        prompt = chats[one.prompt_id]
        sides = one.chosen.strip(), one.rejected.strip()
        first = one.id, one.prompt_id, prompt["category"], one.pair_source
        kept.append((*first, prompt["messages"][:-1], *sides, one.detail))
    return Filtered(pl.DataFrame(kept, PAIRS_SCHEMA, orient="row"), pl.DataFrame(removed, REMOVED_SCHEMA, orient="row"))
