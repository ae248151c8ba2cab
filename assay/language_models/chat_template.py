"""Chats: the canonical form of instruction data, and what a causal language model sees of it.

A chat is a list of messages, each with a `role` and its `content`; the last one is the answer. A model's own chat
template turns it into text, and the loss is taken on the tokens of answers alone. What stands in a message is text,
whatever it says: tokens that end a turn, or begin one, are the template's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from assay.core.errors import InputError

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""Data type of a column of chats."""

ROLES = ("system", "user", "assistant")
ANSWERING = "assistant"

IGNORED = -100
"""The label of a token without loss, as PyTorch's cross entropy and transformers have it."""

FAULTS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text(encoding="utf-8"))
"""What can be wrong with a tokenizer and its chat template, in words."""

Message = Mapping[str, str]


@dataclass(frozen=True)
class TokenisedChat:
    """What a model sees of a chat, shape `(n,)` each: labels are tokens of answers and their ends, else `IGNORED`."""

    input_ids: list[int]
    labels: list[int]

    @property
    def answer_tokens(self) -> int:
        """Tokens with loss."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class RenderedChat:
    """A chat as text, and the places in it (in characters, rising) over which no token may reach.

    They are in special tokens that stand in a message: cut in two, they are read as the text that they are there.
    """

    text: str
    breaks: tuple[int, ...]


@lru_cache(maxsize=8)
def special_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str]:
    """Tokens that are no text: the special ones of a tokenizer, and added ones that its chat template writes."""
    added = (token for token in tokenizer.added_tokens_decoder.values() if token.special or token.content in template)
    # Added tokens of white space are text, and one of a single character cannot be cut.
    names = sorted({token.content for token in added if len(token.content.strip()) > 1}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def render_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_follows: bool
) -> RenderedChat:
    """A chat as text, by the model's template; with `answer_follows` it ends where an answer is to begin.

    An `InputError` if the template refuses these messages, as some do a system message.
    """
    special = special_tokens(tokenizer, str(tokenizer.chat_template))
    known = {*str(tokenizer.chat_template), *(letter for message in messages for letter in message["content"])}
    mark = next(letter for letter in map(chr, range(0xE000, 0xF900)) if letter not in known)
    chat = []
    for message in messages:
        content = message["content"]
        while special.search(content):
            content = special.sub(lambda found: found[0][0] + mark + found[0][1:], content)
        chat.append({**message, "content": content})
    try:
        text: Any = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer_follows)
    except (TemplateError, TypeError, ValueError) as error:
        roles = [message["role"] for message in messages]
        sentence = FAULTS["refused_roles"].format(model=tokenizer.name_or_path, roles=roles, error=error)
        raise InputError(sentence) from None
    pieces = str(text).split(mark)
    return RenderedChat("".join(pieces), tuple(accumulate(map(len, pieces[:-1]))))


def encode_chats(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[RenderedChat]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Of each chat the ids of its tokens, and where in the text each token begins and ends, in characters."""
    # Before what follows a break, so that tokenizers put no blank there.
    lead = str(tokenizer.eos_token or tokenizer.all_special_tokens[0]) if any(chat.breaks for chat in chats) else ""
    pieces = [
        (row, start, (lead if start else "") + chat.text[start:end])
        for row, chat in enumerate(chats)
        for start, end in pairwise((0, *chat.breaks, len(chat.text)))
    ]
    out: list[tuple[list[int], list[tuple[int, int]]]] = [([], []) for _ in chats]
    if not pieces:
        return out
    encoded = tokenizer([text for *_, text in pieces], add_special_tokens=False, return_offsets_mapping=True)
    for (row, start, _), ids, offsets in zip(pieces, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        skipped, shift = (1, start - len(lead)) if start else (0, 0)
        out[row][0].extend(ids[skipped:])
        out[row][1].extend((shift + at, shift + end) for at, end in offsets[skipped:])
    return out


def tokenise_chats(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    without_loss: Sequence[Sequence[int]] | None = None,
    longest: int | None = None,
) -> list[TokenisedChat]:
    """Chats that end with an answer as token ids, and the labels of every answer in them.

    `without_loss` are for each chat the places of answers that have no labels, from 0. A chat of more than `longest`
    tokens, which nobody will use, gets no labels: to find them takes time quadratic in its turns.

    An answer's tokens are those from where the template has an answer begin to the special token that ends it, which is
    learnt with it. An `InputError` as of `render_chat`; if the template leaves a message out; if it writes no such
    token; or if the text of a chat is not a beginning of the text with one message more, so that nobody can say which
    part of it is the answer.
    """
    rendered = [render_chat(tokenizer, messages, answer_follows=False) for messages in chats]
    for messages, whole in zip(chats, rendered, strict=True):
        at = 0
        for one in messages:
            # Behind the one before, as a rule; from the start, each would pass over all before it.
            place = whole.text.find(one["content"].strip(), at)
            if place < 0 and one["content"].strip() not in whole.text:
                shown = {"role": one["role"], "content": one["content"][:80]}
                raise InputError(FAULTS["left_out"].format(model=tokenizer.name_or_path, **shown))
            at = max(at, place)
    encoded = encode_chats(tokenizer, rendered)
    tokenised = []
    for messages, silent, whole, (ids, offsets) in zip(
        chats, without_loss or [()] * len(chats), rendered, encoded, strict=True
    ):
        if longest is not None and len(ids) > longest:
            tokenised.append(TokenisedChat(ids, [IGNORED] * len(ids)))
            continue
        left_out = set(silent)
        answers_at = [place for place, message in enumerate(messages) if message["role"] == ANSWERING]
        places = [place for place in answers_at if place not in left_out]
        answers = [_answer_span(tokenizer, messages, place, whole.text) for place in places]
        # Where the first letters of an answer would be one token with what is before it, which generation cannot give.
        starts = {start for start, _ in answers}
        if joined := {at for start, end in offsets for at in range(start + 1, end) if at in starts}:
            cut = RenderedChat(whole.text, tuple(sorted({*whole.breaks, *joined})))
            ids, offsets = encode_chats(tokenizer, [cut])[0]
        is_learnt = bytearray(len(whole.text) + 1)
        for start, end in answers:
            is_learnt[start:end] = b"\1" * (end - start)
        labels = [token if is_learnt[at] else IGNORED for token, (at, _) in zip(ids, offsets, strict=True)]
        tokenised.append(TokenisedChat(ids, labels))
    return tokenised


def add_answers(chats: Iterable[Sequence[Message]], answers: Iterable[str]) -> list[list[Message]]:
    """Chats, each with an answer at its end."""
    return [[*chat, {"role": ANSWERING, "content": answer}] for chat, answer in zip(chats, answers, strict=True)]


def tokenise_prompts(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of chats that end where the next answer is to begin."""
    prompts = [render_chat(tokenizer, messages, answer_follows=True) for messages in chats]
    return [ids for ids, _ in encode_chats(tokenizer, prompts)]


def _answer_span(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], place: int, text: str
) -> tuple[int, int]:
    """Where in the text of a chat the answer at a place of its messages begins and ends, in characters."""
    before = render_chat(tokenizer, messages[:place], answer_follows=True).text
    upto = render_chat(tokenizer, messages[: place + 1], answer_follows=False)
    end = find_special(tokenizer, upto, len(before))
    if end is None:
        raise InputError(FAULTS["no_special_token"].format(model=tokenizer.name_or_path))
    if not (upto.text.startswith(before) and text.startswith(upto.text[: end[1]])):
        raise InputError(FAULTS["written_anew"].format(model=tokenizer.name_or_path))
    return len(before), end[1]


def find_special(tokenizer: PreTrainedTokenizerBase, chat: RenderedChat, start: int) -> tuple[int, int] | None:
    """Where the first special token that the template wrote behind `start` begins and ends, in characters."""
    special = special_tokens(tokenizer, str(tokenizer.chat_template))
    found = (one.span() for one in special.finditer(chat.text, start))
    return next((span for span in found if not any(span[0] < place < span[1] for place in chat.breaks)), None)
