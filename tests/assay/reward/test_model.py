from pathlib import Path

import numpy as np
import pytest
import torch

from assay.classifiers.checkpoint import save_classifier
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.fine_tuning.adapters import lora
from assay.fine_tuning.params import LowRankAdapter
from assay.reward.model import load_reward_model, new_reward_model, score_answers, tokenise_whole
from tests.policy_workspace import move_trainable

LOW_RANK = LowRankAdapter(rank=4, alpha=8, dropout=0.0, target_modules="all-linear", rank_stabilised=False, dora=False)

CPU = Device(torch.device("cpu"), torch.float32)
END = 2
"""Token of `tiny_chat_model` that ends a message; many tokenizers, that of SmolLM2 among them, pad with it."""


def chat(answer: str, question: str = "How long?") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


CHATS = [chat("Ten weeks."), chat("It depends on the size of the roof, and on the weather of that month."), chat("x")]


def test_a_chat_ends_with_the_token_that_ends_its_answer(tiny_chat_model: Path) -> None:
    _, tokenizer = new_reward_model(str(tiny_chat_model), CPU.device)
    assert [ids[-1] for ids in tokenise_whole(tokenizer, CHATS)] == [END] * 3
    assert tokenise_whole(tokenizer, []) == []
    with pytest.raises(ValueError, match="does not end with an answer"):
        tokenise_whole(tokenizer, [CHATS[0][:1]])


@pytest.mark.parametrize("own_padding", ["<|im_end|>", "<|endoftext|>", None])
def test_padding_changes_no_reward_and_the_last_token_is_seen(
    tiny_chat_model: Path, tmp_path: Path, own_padding: str | None
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    original = AutoTokenizer.from_pretrained(tiny_chat_model)
    original.pad_token = own_padding
    original.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(tiny_chat_model).save_pretrained(tmp_path)

    torch.manual_seed(0)
    model, tokenizer = new_reward_model(str(tmp_path), CPU.device)
    model.eval()
    assert tokenizer.pad_token_id != END
    together = score_answers(model, tokenizer, CHATS, 3, CPU, None)
    alone = np.concatenate([score_answers(model, tokenizer, [one], 1, CPU, None) for one in CHATS])
    assert together.shape == (3,)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    # The head on the state of the last token, by hand.
    with torch.inference_mode():
        for one, reward in zip(tokenise_whole(tokenizer, CHATS), together, strict=True):
            state = model.model(input_ids=torch.tensor([one])).last_hidden_state[0, -1]
            assert model.score(state).item() == pytest.approx(reward, abs=1e-4)


def test_an_answer_changes_its_reward_and_rows_keep_their_order(tiny_chat_model: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = new_reward_model(str(tiny_chat_model), CPU.device)
    model.eval()
    forwards = score_answers(model, tokenizer, CHATS, 2, CPU, "reward")
    assert len(set(forwards.round(6))) == 3
    np.testing.assert_allclose(score_answers(model, tokenizer, CHATS[::-1], 2, CPU, None)[::-1], forwards, atol=1e-4)
    assert score_answers(model, tokenizer, [], 2, CPU, None).shape == (0,)


@pytest.mark.parametrize("adapter", [True, False])
def test_a_saved_model_gives_identical_rewards(tiny_chat_model: Path, tmp_path: Path, adapter: bool) -> None:
    torch.manual_seed(0)
    model, tokenizer = new_reward_model(str(tiny_chat_model), CPU.device)
    if adapter:
        model = lora(model, "SEQ_CLS", LOW_RANK)
    move_trainable(model, 0.05)
    before = score_answers(model.eval(), tokenizer, CHATS, 2, CPU, None)
    save_classifier(model, tokenizer, 128, tmp_path / "reward")
    torch.manual_seed(1)
    loaded, its_tokenizer = load_reward_model(tmp_path / "reward", CPU.device)
    assert its_tokenizer.pad_token_id == tokenizer.pad_token_id
    assert not loaded.training
    np.testing.assert_array_equal(score_answers(loaded, its_tokenizer, CHATS, 2, CPU, None), before)
    assert (tmp_path / "reward/adapter_config.json").is_file() == adapter


def test_a_base_that_cannot_be_one_is_refused(tiny_encoder: Path, tiny_decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model there"):
        new_reward_model(str(tmp_path), CPU.device)
    with pytest.raises(InputError, match="is an encoder"):
        new_reward_model(str(tiny_encoder), CPU.device)
    with pytest.raises(InputError, match="no chat template"):
        new_reward_model(str(tiny_decoder), CPU.device)
