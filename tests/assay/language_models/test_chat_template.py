import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from assay.core.errors import InputError
from assay.language_models.chat_template import IGNORED, render_chat, tokenise_chats, tokenise_prompts


@pytest.fixture(scope="module")
def tokenizer(tiny_chat_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_chat_model)


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CHAT = [said("system", "Be brief."), said("user", "Where?"), said("assistant", "Malmö, 2 km"), said("user", "When?")]


def learnt(tokenizer: PreTrainedTokenizerBase, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_answers_and_their_end_are_learnt_and_nothing_else(tokenizer: PreTrainedTokenizerBase) -> None:
    (chat,) = tokenise_chats(tokenizer, [[*CHAT, said("assistant", "At noon")]])
    assert learnt(tokenizer, chat.labels) == "Malmö, 2 km<|im_end|>At noon<|im_end|>"
    assert chat.answer_tokens == len("Malmö, 2 km".encode()) + len("At noon") + 2
    whole = render_chat(tokenizer, [*CHAT, said("assistant", "At noon")], answer_follows=False)
    assert tokenizer.decode(chat.input_ids) == whole.text


def test_an_answer_that_says_what_the_question_said_is_told_from_it(tokenizer: PreTrainedTokenizerBase) -> None:
    (chat,) = tokenise_chats(tokenizer, [[said("user", "yes"), said("assistant", "yes")]])
    assert learnt(tokenizer, chat.labels) == "yes<|im_end|>"
    assert [label != IGNORED for label in chat.labels].index(True) > chat.input_ids.index(tokenizer.eos_token_id)


def long_chat(turns: int) -> list[dict[str, str]]:
    return [said(role, f"This is message {turn}") for turn in range(turns) for role in ("user", "assistant")]


def test_a_chat_that_is_too_long_to_use_takes_time_linear_in_its_turns(tokenizer: PreTrainedTokenizerBase) -> None:
    seconds = []
    for turns in (200, 2_000):
        started = time.process_time()
        (chat,) = tokenise_chats(tokenizer, [long_chat(turns)], longest=512)
        seconds.append(time.process_time() - started)
        assert (chat.answer_tokens, len(chat.input_ids) > 512) == (0, True)
    assert seconds[1] < 30 * seconds[0]
    # Shorter ones are as they are without a limit.
    short = [long_chat(3)]
    assert tokenise_chats(tokenizer, short, longest=512) == tokenise_chats(tokenizer, short)


def test_no_chats_are_no_error(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenise_chats(tokenizer, []) == []
    assert tokenise_prompts(tokenizer, []) == []


def with_template(tiny_chat_model: Path, template: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_chat_model)
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_that_refuses_a_role_is_an_error(tiny_chat_model: Path) -> None:
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    with pytest.raises(InputError, match=r"refuses the roles \['system', 'user', .*no system role"):
        tokenise_chats(with_template(tiny_chat_model, template), [[*CHAT, said("assistant", "At noon")]])
