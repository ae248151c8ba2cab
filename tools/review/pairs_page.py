"""The page on which a person says which of two answers is the better: `make review ARGS="--pairs sft-lora dpo"`.

Shows answers of two or more models (`data/generations/<model>/answers.parquet`) side by side, and adds each judgement
to `data/preferences.csv`. The reviewer is blind to which model wrote which: the side is drawn by key, and neither the
page nor what it is sent has a model's name. Judgements on train and validation prompts make pairs (`preferences`);
those on test prompts count as the models' win rate by people, and never train one.
"""

from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
from flask import Flask, abort

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.core.seeds import derived_seed
from assay.human_review import preference_judgements as judgements
from assay.human_review.append_only_csv import AlreadyDecidedError
from assay.human_review.preference_judgements import Preference, read_preferences
from tools.review.server import Added, Content, review_app

GENERATIONS = Path("data/generations")
INSTRUCT = Path("data/instruct")
SPLITS = ("train", "validation", "test")
SIDES = {"left": "a", "right": "b", "tie": "tie"}
"""What the page says → what the file says."""


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, by the side on which they are shown."""

    prompt_id: str
    left: str
    right: str
    left_model: str
    right_model: str


def read_answers(models: list[str]) -> dict[str, dict[str, str]]:
    """The answers of different models by the id of the prompt. Raises `InputError`: fewer than two have answers."""
    if len(models) < 2 or len(set(models)) < len(models):
        raise InputError(f"--pairs {' '.join(models)}: name two or more different models, as in --pairs sft-lora dpo")
    answers = {}
    for model in models:
        path = GENERATIONS / model / "answers.parquet"
        if not path.is_file():
            known = sorted(folder.parent.name for folder in GENERATIONS.glob("*/answers.parquet"))
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise InputError(f"{path}: no such file; {there}. `dvc repro evaluate_generation@{model}` makes it")
        # One answer to a prompt: of the modes, those in which it stands in the table of chats.
        table = pl.read_parquet(path, columns=["id", "mode", "answer"])
        table = table.filter(pl.col("mode").is_in(["open", "unanswerable", "label"]))
        # As they are written and read again.
        clean = pl.col("answer").fill_null("").str.replace_all("\r\n", "\n").str.replace_all("\r", "\n")
        answers[model] = dict(table.select("id", clean.str.strip_chars()).iter_rows())
    return answers


def read_prompts(ids: set[str]) -> dict[str, dict[str, Any]]:
    """The prompts by id: `split`, `category`, `task`, `question`, `context`, earlier messages, and the reference.

    Raises `InputError`: there is no table of chats, or an id that is in none of them.
    """
    found: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        path = INSTRUCT / f"{split}.parquet"
        try:
            rows = pl.scan_parquet(path).filter(pl.col("id").is_in(sorted(ids))).collect().to_dicts()
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; make it with `dvc repro instruct_data`") from None
        for row in rows:
            shown = {name: row[name] for name in ("category", "question", "context")}
            more = {"before": row["messages"][:-2], "reference": row["answer"]}
            found[row["id"]] = {"prompt_id": row["id"], "split": split} | shown | more
    if unknown := sorted(ids - set(found)):
        raise InputError(
            f"{GENERATIONS}: answers to {unknown[0]!r} and {len(unknown) - 1} more that are in no table of {INSTRUCT};"
            " make them anew with `dvc repro evaluate_generation`"
        )
    return found


def comparisons(answers: dict[str, dict[str, str]]) -> list[Comparison]:
    """All pairs of different answers to the prompts that all models answered, in the order in which to judge them.

    Each prompt comes once before any comes again, so that a reviewer who stops has seen as many prompts as possible.
    Order, models and sides are drawn by key: they are the same each time, and tell nothing.
    """
    found = []
    for prompt in sorted(set.intersection(*(set(of_model) for of_model in answers.values()))):
        pairs = sorted(combinations(sorted(answers), 2), key=lambda pair: derived_seed(0, "pair", prompt, *pair))
        for rank, pair in enumerate(pairs):
            left, right = pair if derived_seed(0, "side", prompt, *pair) % 2 else pair[::-1]
            one = Comparison(prompt, answers[left][prompt], answers[right][prompt], left, right)
            if one.left != one.right:
                found.append((rank, derived_seed(0, "prompt", prompt), one))
    return [one for *_, one in sorted(found, key=lambda ranked: ranked[:2])]


def judged_by(
    reviewer: str, lines: list[Preference], prompts: dict[str, dict[str, Any]]
) -> dict[tuple[str, frozenset[str]], Preference]:
    """The lines of a reviewer by prompt and answers; what others said does not decide, nor what was since reworded."""
    own = [line for line in lines if line.reviewer == reviewer and line.prompt_id in prompts]
    return {(one.prompt_id, one.answers): one for one in own if one.is_of(prompts[one.prompt_id]["question"])}


def judged_key(one: Comparison) -> tuple[str, frozenset[str]]:
    """What `judged_by` knows a comparison by."""
    return one.prompt_id, frozenset((one.left, one.right))


def make_app(pairs: list[Comparison], prompts: dict[str, dict[str, Any]], reviewer: str, added: Added) -> Flask:
    """The page of pairs and the prompts of their ids, and what it asks."""
    file = added.file

    def show() -> Content:
        judged = judged_by(reviewer, read_preferences(file) if file.is_file() else [], prompts)
        rows = [
            {"id": str(number), "left": one.left, "right": one.right, "decided": judged_key(one) in judged}
            | prompts[one.prompt_id]
            for number, one in enumerate(pairs)
        ]
        return {"reviewer": reviewer, "file": str(file), "rows": rows}

    def decide(body: Content) -> Content:
        number, preferred = body.get("id", ""), body.get("preferred", "")
        if number not in map(str, range(len(pairs))):
            abort(400, f"there is no pair {number!r}")
        if preferred not in SIDES:
            abort(400, f"preferred is {preferred!r}; it is one of {', '.join(SIDES)}")
        one = pairs[int(number)]

        def refuse(content: bytes) -> None:
            lines = judgements.parse_preferences(content, file)
            if judgements.COLUMNS[-1].encode() not in content.splitlines()[0]:
                fix = f"add ,{judgements.COLUMNS[-1]} at its end; the lines below may stay as they are"
                raise InputError(f"{file}: line 1: the header is that of an earlier version: {fix}")
            if there := judged_by(reviewer, lines, prompts).get(judged_key(one)):
                said = f"{there.reviewer} judged these answers to {one.prompt_id} already"
                raise AlreadyDecidedError(f"{file}: line {there.line}: {said}")

        values = (one.prompt_id, one.left, one.right, SIDES[preferred], reviewer, date.today().isoformat())
        rest = (one.left_model, one.right_model, judgements.hash_question(prompts[one.prompt_id]["question"]))
        line = judgements.preference_line(dict(zip(judgements.COLUMNS, (*values, *rest), strict=True)))
        return {"id": number, "preferred": preferred, "line": added.add(judgements.HEADER, number, line, refuse)}

    return review_app("pairs_page", added, show, decide)


def review_pairs(models: list[str], reviewer: str) -> tuple[Flask, Added, str]:
    """The page of the answers of models, what it adds to, and how far the pairs are."""
    added = Added(Path(load_params("preferences.path", str)), "judgement")
    answers = read_answers(models)
    found = comparisons(answers)
    if not found:
        raise InputError(
            f"{GENERATIONS}: {' and '.join(models)} have no prompt in common that they answer differently; name others"
        )
    prompts = read_prompts({one.prompt_id for one in found})
    judged = judged_by(reviewer, read_preferences(added.file) if added.file.is_file() else [], prompts)
    summary = f"{len(found)} pairs, {sum(judged_key(one) in judged for one in found)} judged"
    return make_app(found, prompts, reviewer, added), added, summary
