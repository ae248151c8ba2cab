from typing import Any

import numpy as np
import polars as pl

from assay.instruction_data.context import ContextParams, ask_beside
from assay.instruction_data.distractors import TextVectors
from assay.instruction_data.prompt_modes import PROMPT_SCHEMA, make_prompts, texts_compared
from assay.instruction_data.table import CHAT_SCHEMA
from assay.language_models.chat_template import add_answers

CONTEXT = ContextParams.model_validate(
    {"passages": 1, "max_characters": 40, "closed_book_fraction": 0.5, "unanswerable": None}
    | {"prompt": "Passages:\n{passages}\nQuestion: {question}"}
)
SYSTEM = {"role": "system", "content": "Be short."}


def row(id_: str, split: str, question: str, answer: str, **more: Any) -> dict[str, Any]:
    messages = add_answers([[SYSTEM, {"role": "user", "content": f"table: {question}"}]], [answer])[0]
    of_row: dict[str, Any] = dict.fromkeys(CHAT_SCHEMA, "")
    of_row |= {"id": id_, "group": id_, "split": split, "task": "answer"}
    of_row |= {"question": question, "answer": answer, "messages": messages, "without_loss": []}
    return of_row | {"context": [], "context_ids": [], "answer_in_context": False} | more


def chats() -> pl.DataFrame:
    shown = {"context": ["It rains.", "In May."], "context_ids": ["a", "t:1"], "answer_in_context": True}
    rows = [
        row("a", "train", "How is it?", "It rains."),
        row("b", "train", "How long?", "Ten weeks."),
        row("c", "train", "How long, then?", "Ten weeks, and this is far too long to be shown."),
        row("l", "train", "label it", "bad", task="label"),
        row("t:1", "test", "When?", "In May.", **shown),
        row("t:2", "test", "How long is it?", "Ten weeks."),
        row(
            "t:1#unanswerable",
            "test",
            "When?",
            "No idea.",
            **shown | {"task": "unanswerable", "answer_in_context": False},
        ),
        row("l:1", "test", "label this", "good", task="label"),
    ]
    return pl.DataFrame(rows, CHAT_SCHEMA | {"split": pl.String()})


def vectors(texts: list[str]) -> TextVectors:
    """By hand: questions of a length near the answers about time, all others near the weather."""
    long = np.array([[("long" in text or "weeks" in text), not ("long" in text or "weeks" in text)] for text in texts])
    return TextVectors({text: number for number, text in enumerate(texts)}, long.astype(np.float32))


def test_every_question_is_asked_in_every_mode() -> None:
    found = make_prompts(chats(), CONTEXT, vectors(texts_compared(chats())), ["bad", "good"])
    assert found.schema == PROMPT_SCHEMA
    assert found.select("id", "mode", "answer_in_context", "nearest").rows() == [
        ("t:1", "open", True, 0),
        ("t:1", "retrieved", False, 0),
        ("t:2", "retrieved", True, 0),
        ("t:1", "closed", False, None),
        ("t:2", "closed", False, None),
        ("t:1#unanswerable", "unanswerable", False, 0),
        ("l:1", "label", False, None),
    ]
    opened, first, second, closed = found["messages"].to_list()[:4]
    assert opened == chats().filter(id="t:1")["messages"][0].to_list()
    # As `make ask`: without a system message, and no passage that is too long.
    assert first[:-1] == [{"role": "user", "content": "Passages:\n[1] It rains.\nQuestion: When?"}]
    assert second[:-1] == ask_beside([], "How long is it?", ["Ten weeks."], CONTEXT.prompt)
    assert closed[:-1] == [SYSTEM, {"role": "user", "content": "When?"}]
    assert found["labels"].to_list()[-1] == ["bad", "good"]
    assert found["context_ids"].to_list()[:3] == [["a", "t:1"], ["a"], ["b"]]


def test_without_passages_there_is_no_retrieval() -> None:
    plain = chats().with_columns(pl.lit(False).alias("answer_in_context"))
    assert make_prompts(plain, None, None, [])["mode"].unique().sort().to_list() == ["closed", "label", "unanswerable"]
