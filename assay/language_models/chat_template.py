"""Chats: the canonical form of instruction data, and what a causal language model sees of it.

A chat is a list of messages, each with a `role` and its `content`; the last one is the answer. A model's own chat
template turns it into text, and the loss is taken on the tokens of answers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from assay.core.errors import InputError

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""Data type of a column of chats."""

ROLES = ("system", "user", "assistant")
ANSWERING = "assistant"

IGNORED = -100
"""The label of a token without loss, as PyTorch's cross entropy and transformers have it."""

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


def require_chat_template(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    """Raise an `InputError` unless the tokenizer of a model can render a chat, and say where in it tokens stand."""
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{model}: its tokenizer has no chat template; take an instruction-tuned model, or put the template that "
            "yours was trained with beside it, as chat_template.jinja"
        )
    if not tokenizer.is_fast:
        raise InputError(f"{model}: its tokenizer cannot say where in a text its tokens stand; use one that can")


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_follows: bool) -> str:
    """A chat as text, by the model's template; with `answer_follows` it ends where an answer is to begin.

    An `InputError` if the template refuses these messages, as some do a system message.
    """
    chat = [dict(message) for message in messages]
    try:
        text: Any = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer_follows)
    except TemplateError as error:
        roles = [message["role"] for message in messages]
        raise InputError(f"the chat template of {tokenizer.name_or_path} refuses the roles {roles}: {error}") from None
    return str(text)


def tokenise_chats(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    without_loss: Sequence[Sequence[int]] | None = None,
) -> list[TokenisedChat]:
    """Chats that end with an answer as token ids, and the labels of every answer in them.

    `without_loss` are for each chat the places of answers that have no labels, from 0.

    An answer's tokens are those from where the template has an answer begin to the end of what it writes for that
    message, without white space after it: so the token that ends an answer is learnt with it. An `InputError` as of
    `render_chat`, or if the text of a chat is not a beginning of the text with one message more, so that nobody can say
    which part of it is the answer.
    """
    texts, spans = [], []
    for messages, silent in zip(chats, without_loss or [()] * len(chats), strict=True):
        text = render_chat(tokenizer, messages, answer_follows=False)
        texts.append(text)
        answers_at = [place for place, message in enumerate(messages) if message["role"] == ANSWERING]
        places = [place for place in answers_at if place not in silent]
        spans.append([_answer_span(tokenizer, messages, place, text) for place in places])
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    return [
        TokenisedChat(
            ids,
            [
                token if any(start <= at < end for start, end in answers) else IGNORED
                for token, (at, _) in zip(ids, offsets, strict=True)
            ],
        )
        for ids, offsets, answers in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True)
    ]


def add_answers(chats: Iterable[Sequence[Message]], answers: Iterable[str]) -> list[list[Message]]:
    """Chats, each with an answer at its end."""
    return [[*chat, {"role": ANSWERING, "content": answer}] for chat, answer in zip(chats, answers, strict=True)]


def tokenise_prompts(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of chats that end where the next answer is to begin."""
    texts = [render_chat(tokenizer, messages, answer_follows=True) for messages in chats]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _answer_span(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], place: int, text: str
) -> tuple[int, int]:
    """Where in the text of a chat the answer at a place of its messages begins and ends, in characters."""
    before = render_chat(tokenizer, messages[:place], answer_follows=True)
    upto = render_chat(tokenizer, messages[: place + 1], answer_follows=False)
    if not (upto.startswith(before) and text.startswith(upto)):
        raise InputError(
            f"the chat template of {tokenizer.name_or_path} writes earlier messages anew when one is added, so the "
            "tokens of an answer cannot be told; use a template that only appends"
        )
    return len(before), len(upto.rstrip())
