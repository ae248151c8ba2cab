"""Chats in files of other people: two columns, Alpaca, ShareGPT and chat messages, to one form.

- `columns`: a row has a question and an answer, and perhaps a category, a context and a system message;
- `alpaca` (Taori et al. 2023, https://github.com/tatsu-lab/stanford_alpaca): `instruction`, `input`, `output`; an input
  follows its instruction after an empty line;
- `sharegpt`: a list of messages with `from` and `value`;
- `messages`: a list of messages with `role` and `content`, as OpenAI's chat API has them.

A chat may begin with one system message; then user and assistant take turns, and the assistant has the last word. What
is not so cannot be learnt from, and is set aside with its reason (`FIXES`). An empty system message is none.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from assay.core.params import Params
from assay.language_models.chat_template import ANSWERING, MESSAGES, ROLES
from assay.sources.provenance import ColumnName
from assay.sources.table_files import Table, column

NAMES_OF_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), ANSWERING),
}
"""What the messages of files call the roles, and what they are."""

FIXES = {
    "not_a_chat": "write a JSON list of messages there, each with the keys that the layout names, and text in them",
    "unknown_role": f"call it one of {sorted(NAMES_OF_ROLES)}, or take the message out",
    "two_system_messages": "join them into one",
    "system_not_first": "put the system message first",
    "no_answer_at_end": "take out what follows the last answer, or add the answer",
    "roles_out_of_order": "let user and assistant take turns, the user first; join messages of one role that follow",
    "empty_question": "write the question, or take the row out",
    "empty_answer": "write the answer, or take the row out",
    "no_id": "give the row an id, or set the id column to null",
}
"""Why a record cannot be used, and what its owner can do."""

CHATS_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("id", "category"), pl.String()),
        "messages": MESSAGES,
        "context": pl.List(pl.String),
        "line": pl.Int64(),
    }
)
REJECTED_SCHEMA = pl.Schema({"line": pl.Int64, "rule": pl.String, "before": pl.String})


class _Layout(Params):
    """What every layout has; a column that is null is not there."""

    id: ColumnName | None
    category: ColumnName | None


class AlpacaLayout(_Layout):
    """Columns `instruction`, `input` and `output`."""

    kind: Literal["alpaca"]


class ColumnsLayout(_Layout):
    """A question and its answer in a row."""

    kind: Literal["columns"]
    question: ColumnName
    answer: ColumnName
    context: ColumnName | None
    system: ColumnName | None


class ChatLayout(_Layout):
    """A column of messages."""

    kind: Literal["sharegpt", "messages"]
    chat: ColumnName


Layout = Annotated[ColumnsLayout | AlpacaLayout | ChatLayout, Field(discriminator="kind")]


@dataclass(frozen=True)
class Message:
    """One message; its role is one of `assay.language_models.chat_template.ROLES`."""

    role: str
    content: str


@dataclass(frozen=True)
class Fault:
    """Why a record cannot be used (a key of `FIXES`), and what is wrong in it."""

    rule: str
    shown: str


@dataclass(frozen=True)
class Chats:
    """What a file holds: records that can be used (`CHATS_SCHEMA`), and those that cannot (`REJECTED_SCHEMA`).

    Where the layout names no column or the cell is empty, `id` and `category` are null, and `context` is empty.
    """

    records: pl.DataFrame
    rejected: pl.DataFrame


def read_chats(table: Table, layout: Layout, system_message: str | None, path: Path, key: str) -> Chats:
    """The chats of a table, after `system_message` where they have none of their own, and the records that are none.

    An `InputError` if a column that the layout names (at `key` in the params) is not there.
    """

    def cells(name: str, chosen: ColumnName | None) -> Sequence[str | None]:
        return [None] * table.cells.height if chosen is None else column(table, chosen, path, f"{key}.{name}").to_list()

    ids, categories = cells("id", layout.id), cells("category", layout.category)
    contexts: Sequence[str | None] = [None] * table.cells.height
    chats: list[list[Message] | Fault]
    match layout:
        case ColumnsLayout():
            contexts = cells("context", layout.context)
            systems = cells("system", layout.system)
            questions, answers = cells("question", layout.question), cells("answer", layout.answer)
            chats = [_turn(*turn) for turn in zip(systems, questions, answers, strict=True)]
        case AlpacaLayout():
            inputs = cells("input", "input") if "input" in table.cells.columns else contexts
            asked = [_joined(*parts) for parts in zip(cells("instruction", "instruction"), inputs, strict=True)]
            chats = [_turn(None, *turn) for turn in zip(asked, cells("output", "output"), strict=True)]
        case ChatLayout():
            keys = ("from", "value") if layout.kind == "sharegpt" else ("role", "content")
            chats = [chat_of_json(text, *keys) for text in cells("chat", layout.chat)]
    records, rejected = [], []
    for id_, category, chat, context, line in zip(ids, categories, chats, contexts, table.lines, strict=True):
        usable = _usable(chat, has_id=layout.id is None or bool(_stripped(id_)))
        if isinstance(usable, Fault):
            rejected.append((line, usable.rule, usable.shown))
            continue
        if system_message is not None and usable[0].role != "system":
            usable = [Message("system", system_message), *usable]
        passages = [context] if _stripped(context) else []
        records.append((_stripped(id_), _stripped(category), list(map(asdict, usable)), passages, line))
    return Chats(
        pl.DataFrame(records, CHATS_SCHEMA, orient="row"), pl.DataFrame(rejected, REJECTED_SCHEMA, orient="row")
    )


def _usable(chat: list[Message] | Fault, has_id: bool) -> list[Message] | Fault:
    if isinstance(chat, Fault):
        return chat
    if fault := fault_of(chat):
        return fault
    return chat if has_id else Fault("no_id", chat[-1].content)


def chat_of_json(text: str | None, role_key: str, content_key: str) -> list[Message] | Fault:
    """The messages of a JSON list, their roles by the names that we have, or what is wrong with it."""
    try:
        values: Any = json.loads(text or "null")
    except (ValueError, RecursionError):
        values = None
    shown = text or ""
    if not isinstance(values, list) or not values:
        return Fault("not_a_chat", shown)
    messages = []
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict) or not isinstance(role := value.get(role_key), str):
            return Fault("not_a_chat", shown)
        content = value.get(content_key)
        if not isinstance(content, str | None):
            return Fault("not_a_chat", shown)
        known = NAMES_OF_ROLES.get(role.strip().lower())
        if known is None:
            return Fault("unknown_role", f"message {number} has the role {role!r}: {content or ''}")
        messages.append(Message(known, content or ""))
    return _without_empty_system(messages)


def fault_of(messages: Sequence[Message]) -> Fault | None:
    """What keeps a chat from being learnt from; None where nothing does. The first fault in the order of `FIXES`."""
    roles = [message.role for message in messages]
    in_order = ", ".join(roles)
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if roles.count("system") > 1:
        return Fault("two_system_messages", " | ".join(one.content for one in messages if one.role == "system"))
    if "system" in turns:
        return Fault("system_not_first", in_order)
    if turns[-1:] != [ANSWERING]:
        return Fault("no_answer_at_end", in_order)
    if turns != ["user", ANSWERING] * (len(turns) // 2):
        return Fault("roles_out_of_order", in_order)
    for number, message in enumerate(messages):
        if not message.content.strip():
            # What is there says which row it is.
            beside = messages[number - 1] if message.role == ANSWERING else messages[number + 1]
            return Fault("empty_answer" if message.role == ANSWERING else "empty_question", beside.content)
    return None


def _turn(system: str | None, question: str | None, answer: str | None) -> list[Message]:
    messages = zip(ROLES, (system, question, answer), strict=True)
    return _without_empty_system([Message(role, content or "") for role, content in messages])


def _without_empty_system(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.role != "system" or message.content.strip()]


def _joined(instruction: str | None, given: str | None) -> str:
    return "\n\n".join(part for part in (instruction or "", given or "") if part.strip())


def _stripped(cell: str | None) -> str | None:
    return (cell or "").strip() or None
