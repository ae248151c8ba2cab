import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.instruction_data.formats import (
    FIXES,
    AlpacaLayout,
    ChatLayout,
    Chats,
    ColumnsLayout,
    Layout,
    SquadLayout,
    read_chats,
)
from assay.sources.table_files import read_table

COLUMNS = ColumnsLayout(kind="columns", id="id", question="q", answer="a", category="c", context="x", system="s")
PLAIN = ColumnsLayout(kind="columns", id=None, question="q", answer="a", category=None, context=None, system=None)
ALPACA = AlpacaLayout(kind="alpaca", id=None, category=None)
SHAREGPT = ChatLayout(kind="sharegpt", id=None, category=None, chat="conversations")
MESSAGES = ChatLayout(kind="messages", id=None, category=None, chat="messages")
SQUAD = SquadLayout(kind="squad", id="id", category=None)
FAULTS = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text(encoding="utf-8"))


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


def test_a_list_or_an_object_is_no_text_but_a_list_of_one_text_is(tmp_path: Path) -> None:
    answers: list[Any] = [["Hi"], ["Hi", "Ho"], {"text": "Hi"}, [1], '{"a": 1}', 7]
    rows = [{"instruction": "Greet.", "input": [], "output": one, "history": [["a", "b"]]} for one in answers]
    chats = read(tmp_path, rows, ALPACA)
    assert [(len(chat), chat[2:]) for chat in said(chats)] == [
        (4, [("user", "Greet."), ("assistant", "Hi")]),
        (4, [("user", "Greet."), ("assistant", "7")]),
    ]
    shown = ['output: ["Hi", "Ho"]', 'output: {"text": "Hi"}', "output: [1]", 'output: {"a": 1}']
    assert chats.rejected.rows() == [(line, "not_text", cell) for line, cell in enumerate(shown, start=2)]
    texts = read(tmp_path, [{"instruction": "As JSON?", "output": '["Hi", "Ho"]'}], ALPACA)
    assert said(texts)[0][-1] == ("assistant", '["Hi", "Ho"]')


def test_alpaca_keeps_what_was_said_before_and_the_system_message(tmp_path: Path) -> None:
    now: dict[str, Any] = {"instruction": "And how long does that take?", "output": "Three weeks."}
    before = [["How do I paint the window?", "With a brush."], ["Which?", "A broad one."]]
    rows = [
        now | {"history": before, "system": "Be curt."},
        now | {"history": json.dumps(before[:1])},
        now | {"history": []},
        now | {"history": " ", "system": None},
    ]
    last = [("user", now["instruction"]), ("assistant", now["output"])]
    turns = [[("user", question), ("assistant", answer)] for question, answer in before]
    found = said(read(tmp_path, rows, ALPACA))
    assert found == [[("system", "Be curt."), *turns[0], *turns[1], *last], [*turns[0], *last], last, last]
    bad: list[Any] = ["['a', 'b']", {"a": "b"}, [["alone"]], [["one", 2]], "text"]
    chats = read(tmp_path, [now | {"history": one} for one in bad], ALPACA)
    assert chats.rejected["rule"].to_list() == ["bad_history"] * 5
    empty = read(tmp_path, [now | {"history": [["Why?", None]]}], ALPACA)
    assert empty.rejected.rows() == [(1, "empty_answer", "Why?")]


@pytest.mark.parametrize("wrong", ["instruction", "output"])
def test_the_advice_on_a_column_of_another_name_works(tmp_path: Path, wrong: str) -> None:
    row = {"instruction": "How long?", "output": "Three weeks."}
    renamed = {"text" if name == wrong else name: value for name, value in row.items()}
    with pytest.raises(InputError, match=f"no column '{wrong}', which the layout alpaca has") as raised:
        read(tmp_path, [renamed], ALPACA)
    assert "`instruct_data.sources.0.layout.kind` to columns, with the names under `question` and" in str(raised.value)
    names = {"question": "text" if wrong == "instruction" else "instruction"}
    names |= {"answer": "text" if wrong == "output" else "output"}
    advised = ColumnsLayout(**ALPACA.model_dump() | {"kind": "columns", "context": None, "system": None} | names)
    assert said(read(tmp_path, [renamed], advised)) == [[("user", "How long?"), ("assistant", "Three weeks.")]]


def test_a_system_column_of_chats_is_kept(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    rows = [{"conversations": turns, "system": "Be kind."}, {"conversations": turns, "system": ""}]
    rows.append({"conversations": [{"from": "system", "value": "Be curt."}, *turns], "system": "Be kind."})
    chats = read(tmp_path, rows, SHAREGPT, "Ours.")
    assert [chat[0] for chat in said(chats)] == [("system", "Be kind."), ("system", "Ours.")]
    assert chats.rejected.rows() == [(3, "two_system_messages", "Be kind. | Be curt.")]


def test_what_nothing_uses_is_counted(tmp_path: Path) -> None:
    part = {"type": "text", "text": "So.", "cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": "Why?", "time": 3, "refusal": None, "tool_calls": []},
        {"role": "assistant", "content": [part, {"type": "text", "text": "And so."}], "time": 4, "weight": 1},
    ]
    rows = [{"messages": turns, "tools": "[]", "topic": topic} for topic in ("roofs", " ", None)]
    chats = read(tmp_path, rows, MESSAGES)
    assert said(chats) == [[("user", "Why?"), ("assistant", "So.\nAnd so.")]] * 3
    assert (chats.unused_columns, chats.unused_keys) == ({"tools": 3, "topic": 1}, {"cache_control": 3, "time": 6})


@pytest.mark.parametrize("key", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"weight": 1, "train": False}])
def test_an_answer_of_weight_zero_is_read_and_not_learnt(tmp_path: Path, key: dict[str, Any]) -> None:
    row = openai(("user", "How long?"), ("assistant", "No time."), ("user", "Sure?"), ("assistant", "Three weeks."))
    row["messages"][1] |= key
    row["messages"][2] |= {"weight": 0}
    row["messages"][3] |= {"weight": 1}
    chats = read(tmp_path, [row], MESSAGES, "Ours.")
    assert chats.records["without_loss"].to_list() == [[2]]
    assert (len(said(chats)[0]), chats.unused_keys) == (5, {})


def test_squad(tmp_path: Path) -> None:
    answers: list[Any] = [
        {"text": ["red", "red", "dark red"], "answer_start": [17, 17, 12]},
        [{"text": "red", "answer_start": 17}],
        {"text": [], "answer_start": []},
        {"text": [" "], "answer_start": [0]},
        "red",
    ]
    row = {"question": "Which colour?", "context": "The kettle is red.", "is_impossible": False}
    rows = [row | {"id": str(number), "answers": one} for number, one in enumerate(answers)]
    path = tmp_path / "chats.jsonl"
    read(tmp_path, rows, MESSAGES.model_copy(update={"chat": "question"}))
    chats = read_chats(read_table(path, "jsonl", True), SQUAD, None, path, "key", "I do not know.")
    assert [chat[-1][1] for chat in said(chats)] == ["red", "red", "I do not know."]
    assert chats.records["unanswerable"].to_list() == [False, False, True]
    assert chats.records["context"].to_list() == [["The kettle is red."]] * 3
    assert chats.rejected["rule"].to_list() == ["empty_answer"] * 2
    assert (chats.unused_columns, chats.unused_keys) == ({}, {"other_answers": 1})
    refused = read(tmp_path, rows[2:3], SQUAD)
    assert refused.rejected.rows() == [(1, "no_refusal", "Which colour?")]
    columns = PLAIN.model_copy(update={"question": "question", "answer": "answers"})
    with pytest.raises(InputError, match=r"`.*0\.layout\.answer` holds SQuAD's answers; set .*kind: squad"):
        read(tmp_path, rows, columns)


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


@pytest.mark.parametrize(("rule", "shown", "messages"), FAULTS)
def test_what_is_no_chat_is_set_aside_with_its_reason(tmp_path: Path, rule: str, shown: str, messages: Any) -> None:
    good = openai(("user", "Why?"), ("assistant", "So."))
    chats = read(tmp_path, [good, {"messages": messages}, good], MESSAGES)
    assert chats.rejected.rows() == [(2, rule, shown)]
    assert chats.records["line"].to_list() == [1, 3]


def test_every_reason_has_a_fix_and_a_test() -> None:
    assert {rule for rule, _, _ in FAULTS} | {"no_id", "bad_history", "no_refusal"} == set(FIXES)


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
