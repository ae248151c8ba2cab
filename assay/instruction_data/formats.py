"""Chats in files of other people: two columns, Alpaca, ShareGPT, chat messages and SQuAD, to one form.

docs/generation.md shows the layouts. Alpaca is of Taori et al. (2023), `history` as LLaMA-Factory has it; messages of
`sharegpt` have `from` and `value`, `messages` (OpenAI's chat API) `role` and `content`. Of SQuAD (Rajpurkar et al.
2016, 2018) the first answer counts, and a question that has none is answered by the refusal.

A chat may begin with one system message; then user and assistant take turns, and the assistant has the last word. What
is not so cannot be learnt from, and is rejected with its reason (`FIXES`); so is what says more than a text: tools,
thoughts, names of speakers, pictures. A message of `weight` 0 (of `train` false) is read and not learnt.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import yaml
from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params
from assay.language_models.chat_template import ANSWERING, MESSAGES, ROLES
from assay.sources.provenance import ColumnName
from assay.sources.table_files import UNREADABLE_SCHEMA, Table, column

_TABLES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("chat_names.yaml").read_text(encoding="utf-8"))
NAMES_OF_ROLES: dict[str, str] = {name: role for role, names in _TABLES["roles"].items() for name in names}
"""What the messages of files call the roles, and what they are."""
UNUSABLE: dict[str, str] = {name: reason for reason, names in _TABLES["unusable"].items() for name in names}
"""Roles, and keys of a message that the model would have to see or to say, with the reason to reject the chat."""
LOSS_KEYS = ("weight", "train")
LISTS = ("chat", "history", "answers")
"""Columns that hold lists; in others a list of one text is that text."""
NOTHING: tuple[Any, ...] = (None, "", [], {})

FIXES: dict[str, str] = {rule: fix.format(roles=sorted(NAMES_OF_ROLES)) for rule, fix in _TABLES["fixes"].items()}
"""Why a record cannot be used, and what its owner can do."""

CHATS_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("id", "category"), pl.String()),
        "messages": MESSAGES,
        "without_loss": pl.List(pl.Int64),
        "context": pl.List(pl.String),
        "unanswerable": pl.Boolean(),
        "line": pl.Int64(),
    }
)


class _Layout(Params):
    """What every layout has; a column that is null is not there."""

    id: ColumnName | None
    category: ColumnName | None


class AlpacaLayout(_Layout):
    """Columns `instruction`, `input` and `output`, and perhaps `history` and `system`."""

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


class SquadLayout(_Layout):
    """Columns `question`, `context` and `answers`, or the nested JSON of the release."""

    kind: Literal["squad"]


Layout = Annotated[ColumnsLayout | AlpacaLayout | ChatLayout | SquadLayout, Field(discriminator="kind")]


@dataclass(frozen=True)
class Message:
    """One message; its role is one of `assay.language_models.chat_template.ROLES`. Without loss it is not learnt."""

    role: str
    content: str
    has_loss: bool = True


@dataclass(frozen=True)
class Fault:
    """Why a record cannot be used (a key of `FIXES`), and what is wrong in it."""

    rule: str
    shown: str


@dataclass(frozen=True)
class Chats:
    """What a file holds: records that can be used (`CHATS_SCHEMA`), and those that cannot (`UNREADABLE_SCHEMA`).

    Where the layout names no column or the cell is empty, `id` and `category` are null, and `context` is empty.
    `without_loss` are places in `messages`, from 0. `unused_columns` and `unused_keys` (of messages) are what nothing
    uses, and how often it is there.
    """

    records: pl.DataFrame
    rejected: pl.DataFrame
    unused_columns: dict[str, int]
    unused_keys: dict[str, int]


def read_chats(
    table: Table, layout: Layout, system_message: str | None, path: Path, key: str, refusal: str | None = None
) -> Chats:
    """The chats of a table, after `system_message` where they have none of their own, and the records that are none.

    `refusal` answers what has no answer. An `InputError` if a column that the layout names (at `key` in the params) or
    that it always has is not there, or an answer of `columns` is one of SQuAD.
    """
    there, used, not_text = table.cells.columns, set[str](), dict[int, Fault]()
    nothing: Sequence[str | None] = [None] * table.cells.height

    def cells(name: str, chosen: ColumnName | None) -> Sequence[str | None]:
        if chosen is None:
            return nothing
        used.add(str(chosen))
        found = column(table, chosen, path, f"{key}.{name}").to_list()
        values = map(_parsed, found if chosen in table.nested and name not in LISTS else [])
        for row, value in enumerate(values):
            if isinstance(value, list) and len(value) < 2 and all(isinstance(text, str) for text in value):
                found[row] = "".join(value)
            elif isinstance(value, list | dict):
                not_text[row] = Fault("not_text", f"{chosen}: {found[row]}")
        return found

    def fixed(name: str) -> Sequence[str | None]:
        if name not in there:
            fix = f"rename the column that holds it to {name!r}"
            if layout.kind == "alpaca":
                fix += f", or set `{key}.kind` to columns, with the names under `question` and `answer`, and "
                fix += "`context` and `system`: null"
            raise InputError(f"{path}: no column {name!r}, which the layout {layout.kind} has; it has {there}: {fix}")
        return cells(name, name)

    def optional(name: str) -> Sequence[str | None]:
        return cells(name, name) if name in there else nothing

    ids, categories = cells("id", layout.id), cells("category", layout.category)
    contexts, refused = nothing, [False] * table.cells.height
    unused_keys: Counter[str] = Counter()
    chats: list[list[Message] | Fault]
    match layout:
        case ColumnsLayout():
            contexts = cells("context", layout.context)
            systems = cells("system", layout.system)
            questions, answers = cells("question", layout.question), cells("answer", layout.answer)
            if any('"answer_start"' in (answer or "") for answer in answers):
                fix = f"set `{key}` to {{kind: squad, id: null, category: null}}"
                raise InputError(f"{path}: `{key}.answer` holds SQuAD's answers; {fix}")
            chats = [_turn(*turn) for turn in zip(systems, questions, answers, strict=True)]
        case AlpacaLayout():
            asked = [_joined(*parts) for parts in zip(fixed("instruction"), optional("input"), strict=True)]
            turns = zip(optional("system"), asked, fixed("output"), optional("history"), strict=True)
            chats = [_turn(*turn) for turn in turns]
        case ChatLayout():
            names = ("from", "value") if layout.kind == "sharegpt" else ("role", "content")
            told = zip(cells("chat", layout.chat), optional("system"), strict=True)
            chats = [chat_of_json(text, *names, system, unused_keys) for text, system in told]
        case SquadLayout():
            contexts, found = fixed("context"), [squad_answers(text) for text in fixed("answers")]
            used.add("is_impossible")
            refused = [texts == [] for texts in found]
            unused_keys["other_answers"] = sum(len(set(texts) - {texts[0]}) for texts in found if texts)
            firsts = [None if texts is None else [*texts, refusal][0] for texts in found]
            chats = [_turn(None, *turn) for turn in zip(fixed("question"), firsts, strict=True)]
    records, rejected = [], []
    rows = zip(ids, categories, chats, contexts, refused, table.lines, strict=True)
    for row, (id_, category, chat, context, is_refused, line) in enumerate(rows):
        chat = not_text.get(row, chat)
        has_id = layout.id is None or _stripped(id_) is not None
        usable = chat if isinstance(chat, Fault) else fault_of(chat, has_id=has_id) or chat
        if isinstance(usable, Fault):
            rejected.append((line, "no_refusal" if is_refused and refusal is None else usable.rule, usable.shown))
            continue
        if system_message is not None and usable[0].role != "system":
            usable = [Message("system", system_message), *usable]
        messages = [{"role": one.role, "content": one.content} for one in usable]
        without = [place for place, one in enumerate(usable) if one.role == ANSWERING and not one.has_loss]
        passages = [context] if _stripped(context) else []
        records.append((_stripped(id_), _stripped(category), messages, without, passages, is_refused, line))
    filled = {name: int((table.cells[name].str.strip_chars() != "").sum()) for name in there if name not in used}
    return Chats(
        pl.DataFrame(records, CHATS_SCHEMA, orient="row"),
        pl.DataFrame(rejected, UNREADABLE_SCHEMA, orient="row"),
        {name: count for name, count in filled.items() if count},
        {name: count for name, count in sorted(unused_keys.items()) if count},
    )


def chat_of_json(
    text: str | None, role_key: str, content_key: str, system: str | None, unused: Counter[str]
) -> list[Message] | Fault:
    """A system message and those of a JSON list, their roles by the names that we have, or what is wrong with them.

    Adds to `unused` the keys that nothing uses.
    """
    values = _parsed(text)
    if not isinstance(values, list) or not values:
        return Fault("not_a_chat", text or "")
    messages, seen = [Message("system", system or "")], Counter[str]()
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict) or not isinstance(role := value.get(role_key), str):
            return Fault("not_a_chat", text or "")
        given = {key: one for key, one in value.items() if key != role_key and one not in NOTHING}
        content = text_of(given.pop(content_key, ""), seen)
        named = role.strip().lower()
        if rule := next((UNUSABLE[one] for one in (named, *given) if one in UNUSABLE), None):
            keys = "".join(f", {key} {json.dumps(one)}" for key, one in given.items())
            return Fault(rule, f"message {number} has the role {role!r}{keys}: {content or ''}")
        if content is None:
            is_list = isinstance(parts := value[content_key], list)
            shown = f"message {number}: {json.dumps(parts, ensure_ascii=False)}" if is_list else text or ""
            return Fault("not_text" if is_list else "not_a_chat", shown)
        known = NAMES_OF_ROLES.get(named)
        if known is None:
            return Fault("unknown_role", f"message {number} has the role {role!r}: {content}")
        weights = [given.pop(key) for key in LOSS_KEYS if key in given]
        if any(isinstance(weight, str | list | dict) or weight not in (0, 1) for weight in weights):
            return Fault("bad_weight", f"message {number} has the weight {weights[0]!r}: {content}")
        seen.update(given.keys())
        messages.append(Message(known, content, has_loss=all(weights)))
    unused.update(seen)
    return _without_empty_system(messages)


def text_of(content: Any, unused: Counter[str]) -> str | None:
    """The text of a message: as it is, or the text parts of a list, a part a line; None where it is no text."""
    parts = content if isinstance(content, list) else [content]
    texts = [one.get("text") if isinstance(one, dict) and one.get("type", "text") == "text" else one for one in parts]
    more = [key for one in parts if isinstance(one, dict) for key in one if one[key] not in NOTHING]
    unused.update(key for key in more if key not in ("type", "text"))
    return None if any(not isinstance(text, str) for text in texts) else "\n".join(map(str, texts))


def squad_answers(text: str | None) -> list[str] | None:
    """The answers in a cell of SQuAD: `{"text": […], "answer_start": […]}` or `[{"text": …}, …]`; None: there is none.

    No answer in a cell that can be read is an empty list.
    """
    value = _parsed(text)
    texts = value.get("text") if isinstance(value, dict) else value
    if not isinstance(texts, list):
        return None
    texts = [one.get("text") if isinstance(one, dict) else one for one in texts]
    return texts if all(isinstance(one, str) for one in texts) else None


def fault_of(messages: Sequence[Message], *, has_id: bool) -> Fault | None:
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
    if messages[-1].has_loss and has_id:
        return None
    return Fault("no_id" if messages[-1].has_loss else "no_loss_on_answer", messages[-1].content)


def _turn(
    system: str | None, question: str | None, answer: str | None, history: str | None = None
) -> list[Message] | Fault:
    """A turn, after those of a JSON list of pairs of texts, if there is one."""
    pairs = _parsed(history) if _stripped(history) else []
    is_list = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not is_list or any(not isinstance(text, str | None) for pair in pairs for text in pair):
        return Fault("bad_history", history or "")
    texts = [system, *(text for pair in [*pairs, (question, answer)] for text in pair)]
    roles = [ROLES[0], *ROLES[1:] * (len(pairs) + 1)]
    return _without_empty_system([Message(role, text or "") for role, text in zip(roles, texts, strict=True)])


def _without_empty_system(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.role != "system" or message.content.strip()]


def _joined(instruction: str | None, given: str | None) -> str:
    return "\n\n".join(part for part in (instruction or "", given or "") if part.strip())


def _stripped(cell: str | None) -> str | None:
    return (cell or "").strip() or None


def _parsed(text: str | None) -> Any:
    """What a JSON text says; None where it is none."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
