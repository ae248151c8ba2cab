"""The chat template of a base model, made ready and probed before anything is trained with it.

What is wrong with a template shows late: in a model that never stops, or that says nothing.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from jinja2 import TemplateError
from pydantic import Field
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from assay.compute.model_limits import require_model
from assay.core.errors import InputError
from assay.language_models import chat_template as chats

_Finite = Annotated[float, Field(allow_inf_nan=False)]
TemplateArguments = dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], bool | int | _Finite | str]
"""Section `template_arguments`: values of names in a chat template; `chat_template` names one of several templates."""

ANSWERS = ("Yes, it takes 7 weeks.", "no", "42", "(a) The owner pays.", "- one\n- two")
"""Tokenizers join a blank with some beginnings of a text, and not with others."""


def load_tokenizer(folder: str, base: str, arguments: TemplateArguments | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model or adapter; an `InputError` if it or the base is missing, or its template is unfit."""
    require_model(base)
    if not (Path(folder) / (file := "tokenizer_config.json")).is_file():
        raise InputError(f"{folder}: no tokenizer there ({file} is missing); run `dvc repro fetch` or mend the path")
    tokenizer: PreTrainedTokenizerBase
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, padding_side="left"
    )
    prepare_template(tokenizer, folder, arguments or {})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def prepare_template(tokenizer: PreTrainedTokenizerBase, model: str, arguments: TemplateArguments) -> None:
    """Write arguments into a tokenizer's chat template; an `InputError` unless chats can be learnt from as it has them.

    Written there, they hold wherever the tokenizer is used, and in what is saved or exported with it.
    """
    template: Any = tokenizer.chat_template
    if not template:
        raise InputError(chats.FAULTS["none"].format(model=model))
    lines = "".join(f"{{% set {key} = {json.dumps(value, ensure_ascii=False)} %}}" for key, value in arguments.items())
    if "date_string" in arguments:
        lines += "{% macro strftime_now(format) %}{{ date_string }}{% endmacro %}"
    # Templates are read with `trim_blocks`, which takes the line end away.
    lines = lines and lines + "\n"
    if isinstance(template, dict):
        if (chosen := arguments.get("chat_template")) not in template:
            names = sorted(template)
            raise InputError(chats.FAULTS["several"].format(model=model, names=", ".join(names), first=names[0]))
        template = template[chosen]
        arguments = {key: value for key, value in arguments.items() if key != "chat_template"}
    known = template + "date_string" * ("strftime_now" in template)
    if unknown := [key for key in arguments if key not in known]:
        raise InputError(chats.FAULTS["no_such_name"].format(name=unknown[0], model=model))
    tokenizer.chat_template = template if template.startswith(lines) else lines + template
    if not tokenizer.is_fast:
        raise InputError(chats.FAULTS["no_offsets"].format(model=model))
    for answer in ANSWERS:
        if fault := _find_fault(tokenizer, answer):
            raise InputError(f"{model}: its chat template {fault}")
    # Else it would stand in the text of answers, which are decoded without special tokens.
    if (end := turn_end(tokenizer)) not in tokenizer.all_special_ids:
        token: dict[str, Any] = {"extra_special_tokens": [tokenizer.convert_ids_to_tokens(end)]}
        tokenizer.add_special_tokens(token, replace_extra_special_tokens=False)


def _find_fault(tokenizer: PreTrainedTokenizerBase, answer: str) -> str | None:
    """What is wrong with how a template writes an answer; None: nothing."""
    chat = _chat(answer)
    # A macro of this name takes the place of the function that transformers gives to templates.
    dated = (f"{{% macro strftime_now(format) %}}{day}{{% endmacro %}}\n{tokenizer.chat_template}" for day in "12")
    try:
        texts = {tokenizer.apply_chat_template(chat, chat_template=one, tokenize=False) for one in dated}
    except (TemplateError, TypeError, ValueError) as error:
        return f"cannot be read: {error}"
    if len(texts) > 1:
        return chats.FAULTS["dated"]
    prompt = chats.render_chat(tokenizer, chat[:-1], answer_follows=True)
    whole = chats.render_chat(tokenizer, chat, answer_follows=False)
    if not whole.text.startswith(prompt.text):
        return chats.FAULTS["other_prompt"].format(end=prompt.text[-30:])
    turn = whole.text.removeprefix(prompt.text)
    written, found, rest = turn.partition(answer)
    if not found:
        return f"does not write the answer {answer!r} as it is, but {turn!r}"
    if written.strip():
        fix = "end prompts with it, or leave it out"
        if "enable_thinking" in str(tokenizer.chat_template):
            fix = "set `template_arguments: {enable_thinking: false}` in params.yaml"
        return chats.FAULTS["before"].format(written=written, end=prompt.text[-40:], fix=fix)
    end = chats.find_special(tokenizer, whole, len(whole.text) - len(rest))
    if end is None or rest[: end[0] - len(whole.text)].strip():
        return chats.FAULTS["no_end"].format(turn=turn)
    special = chats.special_tokens(tokenizer, str(tokenizer.chat_template))
    if more := special.sub("", whole.text[end[1] :]).strip():
        return chats.FAULTS["goes_on"].format(more=more)
    begun, ids = (one for one, _ in chats.encode_chats(tokenizer, [prompt, whole]))
    if prompt.text.endswith((" ", "\t")) or ids[: len(begun)] != begun:
        return chats.FAULTS["blank"].format(end=prompt.text[-20:], answer=answer)
    learnt = str(tokenizer.decode(_learnt(tokenizer, answer), clean_up_tokenization_spaces=False))
    wanted = whole.text[len(prompt.text) : end[1]]
    is_same = "".join(learnt.split()) == "".join(wanted.split())
    return None if is_same else chats.FAULTS["other_tokens"].format(wanted=wanted, learnt=learnt)


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer in a model's chat template, which need not be its `eos_token`."""
    return _learnt(tokenizer, ANSWERS[0])[-1]


def _learnt(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """The tokens with loss."""
    return [label for label in chats.tokenise_chats(tokenizer, [_chat(answer)])[0].labels if label != chats.IGNORED]


def _chat(answer: str) -> list[dict[str, str]]:
    question = {"role": "user", "content": "How long does it take, and who pays?"}
    return [question, {"role": chats.ANSWERING, "content": answer}]
