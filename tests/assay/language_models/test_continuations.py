from pathlib import Path

import numpy as np
import pytest

from assay.language_models.chat_template import add_answers, tokenise_chats, tokenise_prompts
from assay.language_models.checkpoint import answer_likelihood, generate_tokens
from assay.language_models.continuations import CHUNK_TOKENS, ask, tokenise_asked
from tests.assay.language_models.test_checkpoint import APPROACHES, CHATS, DEVICE, GREEDY, trained

ANSWERS = ["Here.", f"A permit is {' and '.join(map(str, range(20)))} euros.", "Until five."]


@pytest.mark.parametrize("name", ["full", "lora", "prompt_tuning", "prefix_tuning"])
def test_a_prompt_read_once_gives_what_reading_it_each_time_gives(name: str, tiny_chat_model: Path) -> None:
    model, tokenizer = trained(tiny_chat_model, APPROACHES[name])
    asked = tokenise_asked(tokenizer, CHATS, [ANSWERS] * len(CHATS))
    assert max(len(follows) for one in asked for follows in one.continuations) > 2 * CHUNK_TOKENS
    assert [one.prompt for one in asked] == tokenise_prompts(tokenizer, CHATS)
    log_probabilities, answers = ask(model, tokenizer, asked, True, GREEDY, DEVICE, 0, "test")
    for place, answer in enumerate(ANSWERS):
        chats = tokenise_chats(tokenizer, add_answers(CHATS, [answer] * len(CHATS)))
        whole = answer_likelihood(model, chats, tokenizer.pad_token_id, 1, DEVICE, "test")
        np.testing.assert_allclose(log_probabilities[:, place], whole.log_probabilities, rtol=1e-5)
        assert [len(one.continuations[place]) for one in asked] == whole.tokens.tolist()
    prompts = [one.prompt for one in asked]
    assert answers == generate_tokens(model, tokenizer, prompts, GREEDY, DEVICE, 0, "test")
    assert ask(model, tokenizer, asked, False, GREEDY, DEVICE, 0, "test")[1] is None


def test_of_several_turns_the_last_answer_is_asked_for(tiny_chat_model: Path) -> None:
    _, tokenizer = trained(tiny_chat_model, {"method": "full"})
    chat = [*add_answers(CHATS[:1], ["There."])[0], {"role": "user", "content": "And then?"}]
    (asked,) = tokenise_asked(tokenizer, [chat], [["Home."]])
    assert [asked.prompt] == tokenise_prompts(tokenizer, [chat])
    assert tokenizer.decode(asked.continuations[0], skip_special_tokens=True).strip() == "Home."
