import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assay.core.errors import InputError
from assay.instruction_data.formats import FIXES, AlpacaLayout, ChatLayout, Chats, ColumnsLayout, Layout, read_chats
from assay.sources.table_files import read_table

COLUMNS = ColumnsLayout(kind="columns", id="id", question="q", answer="a", category="c", context="x", system="s")
PLAIN = ColumnsLayout(kind="columns", id=None, question="q", answer="a", category=None, context=None, system=None)
ALPACA = AlpacaLayout(kind="alpaca", id=None, category=None)
SHAREGPT = ChatLayout(kind="sharegpt", id=None, category=None, chat="conversations")
MESSAGES = ChatLayout(kind="messages", id=None, category=None, chat="messages")


def read(folder: Path, rows: list[dict[str, Any]], layout: Layout, system_message: str | None = None) -> Chats:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_chats(read_table(path, "jsonl", True), layout, system_message, path, "instruct_data.sources.0.layout")


def said(chats: Chats) -> list[list[tuple[str, str]]]:
    return [[(one["role"], one["content"]) for one in chat] for chat in chats.records["messages"].to_list()]


def openai(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "q": "Why?", "a": "So.", "c": " causes ", "x": "It is so.", "s": "Be brief."},
        {"id": "2", "q": "Where?", "a": "Here.", "c": " ", "x": None, "s": " "},
    ]
    chats = read(tmp_path, rows, COLUMNS)
    assert said(chats) == [
        [("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")],
        [("user", "Where?"), ("assistant", "Here.")],
    ]
    found = chats.records.select("id", "category", "context", "line").rows()
    assert found == [("1", "causes", ["It is so."], 1), ("2", None, [], 2)]


def test_columns_without_a_header_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "faq.tsv"
    path.write_text("Why?\tSo.\n", encoding="utf-8")
    layout = ColumnsLayout(kind="columns", id=None, question=1, answer=2, category=None, context=None, system=None)
    chats = read_chats(read_table(path, "tsv", False), layout, None, path, "key")
    assert said(chats) == [[("user", "Why?"), ("assistant", "So.")]]


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Translate.", "input": "Hallo", "output": "Hello"},
        {"instruction": "Greet.", "input": "", "output": "Hi"},
        {"instruction": "", "input": "Only this", "output": "Yes"},
    ]
    assert said(read(tmp_path, rows, ALPACA)) == [
        [("user", "Translate.\n\nHallo"), ("assistant", "Hello")],
        [("user", "Greet."), ("assistant", "Hi")],
        [("user", "Only this"), ("assistant", "Yes")],
    ]
    without_input = [{"instruction": "Greet.", "output": "Hi"}]
    assert said(read(tmp_path, without_input, ALPACA)) == [[("user", "Greet."), ("assistant", "Hi")]]


def test_sharegpt_keeps_all_turns(tmp_path: Path) -> None:
    turns = [("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello"), ("user", "Why?"), ("chatgpt", "So.")]
    row = {"conversations": [{"from": role, "value": content} for role, content in turns]}
    assert said(read(tmp_path, [row], SHAREGPT)) == [
        [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "So.")]
    ]


def test_messages_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    pl.DataFrame([openai(("Developer", "Be brief."), ("user", "Why?"), ("assistant", "So."))]).write_parquet(path)
    chats = read_chats(read_table(path, "parquet", True), MESSAGES, None, path, "key")
    assert said(chats) == [[("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")]]


def test_a_system_message_is_put_before_chats_that_have_none(tmp_path: Path) -> None:
    rows = [
        openai(("user", "Why?"), ("assistant", "So.")),
        openai(("system", "Mine."), ("user", "Why?"), ("assistant", "So.")),
        openai(("system", " "), ("user", "Why?"), ("assistant", "So.")),
    ]
    firsts = [chat[0] for chat in said(read(tmp_path, rows, MESSAGES, "Ours."))]
    assert firsts == [("system", "Ours."), ("system", "Mine."), ("system", "Ours.")]


FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    ("not_a_chat", "no list", {"messages": "no list"}),
    ("not_a_chat", "[]", {"messages": []}),
    ("not_a_chat", '["text"]', {"messages": ["text"]}),
    ("not_a_chat", '[{"role": "user"}, {"content": "x"}]', {"messages": [{"role": "user"}, {"content": "x"}]}),
    ("not_a_chat", '[{"role": "user", "content": 3}]', openai(("user", 3))),
    ("not_a_chat", "", {"messages": None}),
    (
        "unknown_role",
        "message 2 has the role 'tool': 4",
        openai(("user", "2 + 2?"), ("tool", "4"), ("assistant", "Four.")),
    ),
    (
        "two_system_messages",
        "A. | B.",
        openai(("system", "A."), ("system", "B."), ("user", "Why?"), ("assistant", "So.")),
    ),
    ("system_not_first", "user, system, assistant", openai(("user", "Why?"), ("system", "A."), ("assistant", "So."))),
    ("no_answer_at_end", "user, assistant, user", openai(("user", "Why?"), ("assistant", "So."), ("user", "Thanks"))),
    ("no_answer_at_end", "system", openai(("system", "Alone."))),
    ("roles_out_of_order", "user, user, assistant", openai(("user", "Hm"), ("user", "Why?"), ("assistant", "So."))),
    ("roles_out_of_order", "assistant", openai(("assistant", "Hello!"))),
    ("empty_question", "So.", openai(("user", " \n"), ("assistant", "So."))),
    ("empty_answer", "Why?", openai(("user", "Why?"), ("assistant", None))),
    ("empty_answer", "Why?", openai(("user", "Why?"), ("assistant", ""), ("user", "And?"), ("assistant", "So."))),
]


@pytest.mark.parametrize(("rule", "shown", "row"), FAULTS)
def test_what_is_no_chat_is_set_aside_with_its_reason(
    tmp_path: Path, rule: str, shown: str, row: dict[str, Any]
) -> None:
    good = openai(("user", "Why?"), ("assistant", "So."))
    chats = read(tmp_path, [good, row, good], MESSAGES)
    assert chats.rejected.rows() == [(2, rule, shown)]
    assert chats.records["line"].to_list() == [1, 3]


def test_every_reason_has_a_fix_and_a_test() -> None:
    assert {rule for rule, _, _ in FAULTS} | {"no_id"} == set(FIXES)


def test_a_row_without_an_id_where_others_have_one(tmp_path: Path) -> None:
    rows = [{"id": name, "q": "Why?", "a": "So.", "c": "c", "x": "x", "s": "s"} for name in ("1", " ")]
    assert read(tmp_path, rows, COLUMNS).rejected.rows() == [(2, "no_id", "So.")]


def test_empty_cells_of_two_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"q": "Why?", "a": None}, {"q": "", "a": "So."}, {"q": "Why?", "a": "So."}]
    chats = read(tmp_path, rows, PLAIN)
    assert chats.rejected.rows() == [(1, "empty_answer", "Why?"), (2, "empty_question", "So.")]
    assert chats.records.height == 1


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'q'; it has \['question', 'a'\]: correct `.*0\.layout\.question`"):
        read(tmp_path, [{"question": "Why?", "a": "So."}], PLAIN)
