"""The chat template of a base model, made ready and probed before anything is trained with it.

What is wrong with a template shows late: in a model that never stops, or that says nothing.
"""

import json
from typing import Annotated, Any

from jinja2 import TemplateError
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from assay.core.errors import InputError
from assay.language_models import chat_template as chats

TemplateArguments = dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], bool | int | float | str]
"""Section `template_arguments`: values of names in a chat template; `chat_template` names one of several templates."""

ANSWERS = ("Yes, it takes 7 weeks.", "no", "42", "(a) The owner pays.", "- one\n- two")
"""Tokenizers join a blank with some beginnings of a text, and not with others."""


def prepare_template(tokenizer: PreTrainedTokenizerBase, model: str, arguments: TemplateArguments) -> None:
    """Write arguments into a tokenizer's chat template; an `InputError` unless chats can be learnt from as it has them.

    Written there, they hold wherever the tokenizer is used, and in what is saved or exported with it.
    """
    template: Any = tokenizer.chat_template
    if not template:
        raise InputError(
            f"{model}: its tokenizer has no chat template; take an instruction-tuned model, or put the template that "
            "yours was trained with beside it, as chat_template.jinja"
        )
    lines = "".join(f"{{% set {key} = {json.dumps(value, ensure_ascii=False)} %}}" for key, value in arguments.items())
    if "date_string" in arguments:
        lines += "{% macro strftime_now(format) %}{{ date_string }}{% endmacro %}"
    # Templates are read with `trim_blocks`, which takes the line end away.
    lines = lines and lines + "\n"
    if isinstance(template, dict):
        if (chosen := arguments.get("chat_template")) not in template:
            raise InputError(
                f"{model}: its tokenizer has several chat templates ({', '.join(sorted(template))}); name one in "
                f"params.yaml, as `template_arguments: {{chat_template: {min(template)}}}`"
            )
        template = template[chosen]
    elif not template.startswith(lines):
        names = template + ("date_string" if "strftime_now" in template else "")
        if unknown := [key for key in arguments if key not in names]:
            raise InputError(
                f"params.yaml: `template_arguments.{unknown[0]}`: the chat template of {model} has no such name"
            )
    tokenizer.chat_template = template if template.startswith(lines) else lines + template
    if not tokenizer.is_fast:
        raise InputError(f"{model}: its tokenizer cannot say where in a text its tokens stand; use one that can")
    try:
        _require_same_tomorrow(tokenizer, model)
        for answer in ANSWERS:
            _require_learnable(tokenizer, model, answer)
    except TemplateError as error:
        raise InputError(f"{model}: its chat template cannot be read: {error}") from None


def _require_same_tomorrow(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    # A macro of this name takes the place of the function that transformers gives to templates.
    dated = (f"{{% macro strftime_now(format) %}}{day}{{% endmacro %}}\n{tokenizer.chat_template}" for day in "12")
    if len({tokenizer.apply_chat_template(_chat("no"), chat_template=one, tokenize=False) for one in dated}) > 1:
        raise InputError(
            f"{model}: its chat template writes today's date, so the same chat is another one tomorrow; give it one in "
            'params.yaml, as `template_arguments: {date_string: "1 January 2026"}`'
        )


def _require_learnable(tokenizer: PreTrainedTokenizerBase, model: str, answer: str) -> None:
    prompt = chats.render_chat(tokenizer, _chat(answer)[:-1], answer_follows=True)
    whole = chats.render_chat(tokenizer, _chat(answer), answer_follows=False)
    turn = whole.text.removeprefix(prompt.text)
    written, found, rest = turn.partition(answer)
    if not found:
        raise InputError(f"{model}: its chat template does not write the answer {answer!r} as it is, but {turn!r}")
    if written.strip():
        raise InputError(
            f"{model}: its chat template writes {written!r} before an answer, which a prompt ({prompt.text[-40:]!r}) "
            "does not end with; set `template_arguments: {enable_thinking: false}` in params.yaml, or mend the template"
        )
    end = chats.find_special(tokenizer, whole, len(whole.text) - len(rest))
    if end is None or whole.text[len(whole.text) - len(rest) : end[0]].strip():
        raise InputError(
            f"{model}: its chat template writes no token after an answer that ends it ({turn!r}), so a model trained "
            "on it would never stop; let it write `eos_token` there"
        )
    begun, ids = (one for one, _ in chats.encode_chats(tokenizer, [prompt, whole]))
    if prompt.text.endswith((" ", "\t")) or ids[: len(begun)] != begun:
        raise InputError(
            f"{model}: its chat template ends a prompt with {prompt.text[-20:]!r}, and tokenizers join that end to the "
            f"beginning of an answer ({answer!r}): let the template write the blank with the answer, not before"
        )
    learnt = tokenizer.decode(_learnt(tokenizer, answer), clean_up_tokenization_spaces=False)
    wanted = whole.text[len(prompt.text) : end[1]]
    if "".join(str(learnt).split()) != "".join(wanted.split()):
        raise InputError(f"{model}: its tokenizer reads {wanted!r} as {learnt!r}; take the model's own tokenizer")


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer in a model's chat template, which need not be its `eos_token`."""
    return _learnt(tokenizer, ANSWERS[0])[-1]


def _learnt(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """The tokens with loss."""
    return [label for label in chats.tokenise_chats(tokenizer, [_chat(answer)])[0].labels if label != chats.IGNORED]


def _chat(answer: str) -> list[dict[str, str]]:
    return chats.add_answers([[{"role": "user", "content": "How long does it take, and who pays?"}]], [answer])[0]
