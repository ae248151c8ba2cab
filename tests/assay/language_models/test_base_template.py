from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from assay.core.errors import InputError
from assay.language_models.base_template import prepare_template, turn_end
from assay.language_models.chat_template import IGNORED, render_chat, tokenise_chats, tokenise_prompts
from assay.language_models.checkpoint import load_base
from assay.reward.model import tokenise_whole
from tests.tiny_models import LLAMA, WORDS

CPU = torch.device("cpu")
EACH, ENDED = "{% for m in messages %}", "{% endfor %}"
IF_USER = "{% if m['role'] == 'user' %}"
PROMPT = "{% if add_generation_prompt %}"
CHATML = (
    EACH + "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}" + ENDED
    + PROMPT + "{{ '<|im_start|>assistant\n' }}{% endif %}"
)  # fmt: skip
QWEN3 = (
    EACH + "{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}" + ENDED
    + PROMPT + "{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)  # fmt: skip
LLAMA3 = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ bos_token + '<|head|>system<|/head|>\n\nToday Date: ' + date_string + '<|eot_id|>' }}"
    + EACH + "{{ '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] | trim + '<|eot_id|>' }}" + ENDED
    + PROMPT + "{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)  # fmt: skip
GEMMA = (
    "{{ bos_token }}" + EACH + "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}" + ENDED
    + PROMPT + "{{ '<start_of_turn>model\n' }}{% endif %}"
)  # fmt: skip
PHI3 = (
    EACH + "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}" + ENDED
    + PROMPT + "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)  # fmt: skip
LLAMA2 = (
    EACH + IF_USER + "{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}" + ENDED
)  # fmt: skip
DEEPSEEK = (
    EACH + IF_USER + "{{ '<|User|>' + m['content'] }}{% else %}{{ '<|Assistant|>' + m['content'] + eos_token }}"
    "{% endif %}" + ENDED + PROMPT + "{{ '<|Assistant|>' }}{% endif %}"
)  # fmt: skip

# Of each: template, tokens that it writes, special or merely added, its arguments, and what is learnt of an answer.
FAMILY: dict[str, tuple[str, list[str], list[str], dict[str, Any], str]] = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], [], {}, "At noon<|im_end|>"),
    "qwen3": (
        QWEN3, ["<|im_start|>", "<|im_end|>"], ["<think>", "</think>"], {"enable_thinking": False}, "At noon<|im_end|>"
    ),
    "llama3": (
        LLAMA3, ["<|head|>", "<|/head|>", "<|eot_id|>"], [], {"date_string": "1 \"May\" '26"}, "At noon<|eot_id|>"
    ),
    "gemma": (GEMMA, [], ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n"], {}, "At noon<end_of_turn>"),
    "phi3": (PHI3, ["<|user|>", "<|assistant|>", "<|end|>"], [], {}, "At noon<|end|>"),
    "llama2": (LLAMA2, [], [], {}, " At noon </s>"),
    "deepseek": (DEEPSEEK, ["<|User|>", "<|Assistant|>"], [], {}, "At noon</s>"),
}  # fmt: skip


def new_tokenizer(template: Any, special: list[str], added: list[str]) -> PreTrainedTokenizerFast:
    """Byte pairs that join a blank with the word behind it, and tokens special or not."""
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    pairs.train_from_iterator([f"Yes, it takes no 42 {WORDS}"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token="<s>", eos_token="</s>")  # type: ignore[no-untyped-call]
    tokenizer.add_special_tokens({"extra_special_tokens": special})
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    tokenizer.chat_template = template
    return tokenizer


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[row % 2], "content": content} for row, content in enumerate(contents)]


def learnt(tokenizer: Any, chat: list[dict[str, str]]) -> str:
    labels = tokenise_chats(tokenizer, [chat])[0].labels
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


@pytest.mark.parametrize("name", FAMILY)
def test_an_answer_and_its_end_are_learnt_in_every_template(name: str) -> None:
    template, special, added, arguments, expected = FAMILY[name]
    tokenizer = new_tokenizer(template, special, added)
    prepare_template(tokenizer, name, arguments)
    with_arguments = tokenizer.chat_template
    prepare_template(tokenizer, name, arguments)
    assert tokenizer.chat_template == with_arguments
    assert tokenizer.decode([turn_end(tokenizer)], skip_special_tokens=True) == ""
    assert learnt(tokenizer, said("When?", "At noon")) == expected
    assert turn_end(tokenizer) == tokenizer.convert_tokens_to_ids(expected.split("noon")[1].strip())
    prompt, chat = tokenise_prompts(tokenizer, [said("When?")])[0], said("When?", "At noon")
    assert tokenise_chats(tokenizer, [chat])[0].input_ids[: len(prompt)] == prompt
    if name == "qwen3":
        with pytest.raises(InputError, match="writes earlier messages anew"):
            learnt(tokenizer, said("When?", "At noon", "Why?", "It rains"))
    else:
        twice = expected + expected.replace("At noon", "It rains")
        assert learnt(tokenizer, said("When?", "At noon", "Why?", "It rains")) == twice


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=15)
@given(data=st.data())
def test_what_stands_in_a_message_is_text(name: str, data: st.DataObject) -> None:
    template, special, added, arguments, _ = FAMILY[name]
    tokenizer = new_tokenizer(template, special, added)
    prepare_template(tokenizer, name, arguments)
    pieces = [*special, *added, "<s>", "</s>", "<", "|", "im_end|>", "\ue000", "x", "é"]
    question, answer = (f"a{data.draw(st.lists(st.sampled_from(pieces)).map(''.join))}b" for _ in range(2))
    chat = said(question, answer)
    (ids,) = (one.input_ids for one in tokenise_chats(tokenizer, [chat]))
    plain = tokenise_chats(tokenizer, [said("ab", "ab")])[0].input_ids
    control = [tokenizer.convert_tokens_to_ids(token) for token in (*special, *added, "<s>", "</s>") if token.strip()]
    assert [token for token in ids if token in control] == [token for token in plain if token in control]
    assert tokenizer.decode(ids) == render_chat(tokenizer, chat, answer_follows=False).text
    assert answer in learnt(tokenizer, chat)
    assert ids[: len(prompt := tokenise_prompts(tokenizer, [chat[:1]])[0])] == prompt
    assert tokenise_whole(tokenizer, [chat])[0] == ids[: len(tokenise_whole(tokenizer, [chat])[0])]


def test_letters_that_would_be_one_token_with_the_prompt_are_learnt() -> None:
    tokenizer = new_tokenizer(LLAMA2.replace("[/INST]'", "[/INST] '").replace("' ' + m", "m"), [], [])
    assert learnt(tokenizer, said("Why?", "the card")) == "the card </s>"


def test_a_message_that_a_template_leaves_out_is_an_error() -> None:
    silent = CHATML.replace(EACH, "{% for m in messages if m['role'] != 'system' %}")
    system = [{"role": "system", "content": "Be brief."}]
    tokenizer = new_tokenizer(silent, ["<|im_start|>", "<|im_end|>"], [])
    with pytest.raises(InputError, match=r"does not write a message as it is \(system: 'Be brief\.'\)"):
        learnt(tokenizer, system + said("Why?", "So"))
    tokenizer.chat_template = "{{ raise_exception('no system here') }}" + silent
    with pytest.raises(InputError, match=r"refuses the roles \['system', 'user', 'assistant'\]: no system here; take"):
        learnt(tokenizer, system + said("Why?", "So"))


TEMPLATES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "blank before the answer": (CHATML.replace("assistant\n'", "assistant '").replace("+ '\n'", "+ ' '"), {}, "blank"),
    "no end": (CHATML.replace("<|im_end|>", "\n\n"), {}, "writes no token after an answer that ends it .*never stop"),
    "an end that is no token": (CHATML.replace("<|im_end|>", "[END]"), {}, "writes no token after an answer"),
    "empty thought": (QWEN3, {}, r"writes '<think>\\n\\n</think>\\n\\n' before .*arguments: {enable_thinking: false}`"),
    "empty thought, always": (QWEN3.replace("enable_thinking is false", "false"), {}, "end prompts with it"),
    "today's date": (LLAMA3, {}, r'writes today\'s date.*`template_arguments: {date_string: "1 January 2026"}`'),
    "the answer in capitals": (CHATML.replace("m['content']", "m['content'] | upper"), {}, "does not write the answer"),
    "no template": (None, {}, "models/x: its tokenizer has no chat template; .*chat_template.jinja"),
    "several": ({"rag": CHATML, "default": CHATML}, {}, r"several chat templates \(default, rag\).*chat_template: def"),
    "an unknown one": ({"rag": CHATML}, {"chat_template": "tools"}, r"several chat templates \(rag\)"),
    "one of one": (CHATML, {"chat_template": "rag"}, r"template_arguments\.chat_template`: .*no such name"),
    "an argument of no use": (CHATML, {"enable_thinking": False}, r"template_arguments\.enable_thinking`"),
    "a prompt that ends with more": (
        CHATML.replace("assistant\n'", "assistant\n<think>\n'"),
        {},
        r"ends a prompt with '.*<think>\\n', and an answer is",
    ),
    "the next prompt after an answer": (
        CHATML.replace(PROMPT, "{% if true %}"),
        {},
        "writes 'assistant' after the end of an answer",
    ),
    "no question": (
        CHATML.replace(EACH, "{% for m in messages if m['role'] != 'user' %}"),
        {},
        "not write a message as it is .user: 'How",
    ),
    "a sum of text and number": (CHATML.replace("+ '\n'", "+ 1"), {}, "its chat template cannot be read"),
    "no Jinja": ("{% for m in messages", {}, "its chat template cannot be read"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_wrong_with_a_template_is_said_in_one_sentence(name: str) -> None:
    template, arguments, error = TEMPLATES[name]
    tokenizer = new_tokenizer(template, ["<|im_start|>", "<|im_end|>"], [])
    with pytest.raises(InputError, match=error) as caught:
        prepare_template(tokenizer, "models/x", arguments)
    assert "\n" not in str(caught.value)


def test_a_date_holds_for_a_template_that_asks_for_today_and_one_of_several_can_be_named() -> None:
    dated = "{{ 'Today: ' + strftime_now('%d %b %Y') + '<|im_end|>\n' }}" + CHATML
    tokenizer = new_tokenizer({"rag": dated, "default": CHATML}, ["<|im_start|>", "<|im_end|>"], [])
    prepare_template(tokenizer, "models/x", {"chat_template": "rag", "date_string": "1 May"})
    assert render_chat(tokenizer, said("Why?"), answer_follows=True).text.startswith("Today: 1 May<|im_end|>\n<|im_st")


def test_generation_stops_where_the_template_ends_a_turn(tmp_path: Path) -> None:
    template, special, added, *_ = FAMILY["gemma"]
    tokenizer = new_tokenizer(template, special, added)
    tokenizer.save_pretrained(tmp_path)
    sizes = LLAMA | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path)
    model, its_tokenizer = load_base(str(tmp_path), CPU)
    ends = [its_tokenizer.convert_tokens_to_ids(token) for token in ("</s>", "<end_of_turn>")]
    assert model.generation_config.eos_token_id == sorted(ends)
    LlamaForCausalLM(LlamaConfig(**sizes | {"vocab_size": 300})).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"its tokenizer gives .* and the model has embeddings for 300 tokens"):
        load_base(str(tmp_path), CPU)
