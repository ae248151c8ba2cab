from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assay.compute.device import Device
from assay.language_models.chat_template import Message
from assay.language_models.checkpoint import load_causal_lm
from assay.reinforcement.held_out import (
    HeldOutScores,
    compare_policies,
    measure_held_out,
    read_prompts,
    reward_function,
)
from assay.reinforcement.policy import load_policy
from assay.reinforcement.rollouts import Sampling
from tests.policy_workspace import CPU, chat, write_chats, write_models

DEVICE = Device(CPU, torch.float32)
SAMPLING = Sampling(max_new_tokens=6, temperature=1.0, batch_size=3)


def test_prompts_are_chats_that_ask_for_an_answer_without_it(tiny_chat_model: Path, tmp_path: Path) -> None:
    _, tokenizer = load_causal_lm(tiny_chat_model, CPU)
    path = tmp_path / "chats.parquet"
    write_chats(path, 9, "faq")
    prompts = read_prompts(path, tokenizer, 500, None, (1,))
    # Every third is a label.
    assert prompts.ids == ["faq:0", "faq:1", "faq:3", "faq:4", "faq:6", "faq:7"]
    assert prompts.chats[1] == chat(1)
    assert prompts.too_long == 0
    assert str(tokenizer.decode(prompts.token_ids[1])).endswith("No. 1<|im_end|>\n<|im_start|>assistant\n")


def test_a_prompt_keeps_its_draw_when_others_are_added(tiny_chat_model: Path, tmp_path: Path) -> None:
    _, tokenizer = load_causal_lm(tiny_chat_model, CPU)
    path = tmp_path / "chats.parquet"
    write_chats(path, 60, "faq")
    few = read_prompts(path, tokenizer, 500, 10, (1,)).ids
    assert len(few) == 10
    assert read_prompts(path, tokenizer, 500, 10, (2,)).ids != few
    write_chats(path, 90, "faq")
    more = read_prompts(path, tokenizer, 500, 10, (1,)).ids
    assert [name for name in more if int(name[4:]) < 60] == [name for name in few if name in more]
    assert read_prompts(path, tokenizer, 500, None, (1,)).ids == [f"faq:{row}" for row in range(90) if row % 3 < 2]


def test_rewards_are_those_of_the_reward_model(
    tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_models(tiny_chat_model)
    score = reward_function(Path("models/reward/model"), 2, DEVICE)
    rewards = score([chat(1), chat(2), chat(1)], ["Yes.", "No, not at all.", "No."])
    assert rewards.shape == (3,)
    assert len(set(rewards)) == 3
    np.testing.assert_allclose(score([chat(2)], ["No, not at all."]), rewards[1:2], atol=1e-5)


def length(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(len(answer)) for answer in answers])


def test_before_training_a_policy_is_its_reference_and_answers_are_the_same(
    tiny_chat_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "chats.parquet"
    write_chats(path, 12, "faq")
    policy = load_policy(tiny_chat_model, CPU)
    prompts = read_prompts(path, policy.tokenizer, 500, None, (1,))
    before = measure_held_out(policy, prompts, length, SAMPLING, DEVICE, 4)
    again = measure_held_out(policy, prompts, length, SAMPLING, DEVICE, 4)
    assert before.kl.tolist() == [0.0] * 8
    np.testing.assert_array_equal(before.rewards, again.rewards)
    with torch.no_grad():
        for parameter in policy.trainable:
            parameter.mul_(1.1)
    after = measure_held_out(policy, prompts, length, SAMPLING, DEVICE, 4)
    assert (after.kl != 0).all()
    assert (before.tokens <= 6).all()


def test_a_comparison_by_hand() -> None:
    def scores(rewards: list[float], kl: float, tokens: list[float], ended: list[float]) -> HeldOutScores:
        same = np.full(len(rewards), kl)
        return HeldOutScores(np.array(rewards), same, np.array(tokens), np.array(ended))

    before = scores([1.0, 2.0, 3.0, 4.0], 0.0, [4, 4, 6, 6], [1, 0, 0, 0])
    after = scores([2.0, 3.0, 4.0, 5.0], 1.0, [4, 4, 4, 4], [1, 1, 1, 0])
    metrics = compare_policies(before, after, 200, np.random.default_rng(0))
    assert metrics["held_out_prompts"] == 4
    assert (metrics["reward_before"], metrics["reward_after"], metrics["reward_difference"]) == (2.5, 3.5, 1.0)
    # Every answer gained 1, so no sample gives another difference, though rewards themselves vary.
    assert "reward_difference_ci95_low" not in metrics  # all differ by as much: no interval of no width
    assert metrics["reward_before_ci95_low"] < 2.5 < metrics["reward_before_ci95_high"]
    assert metrics["kl_to_reference"] == 1.0
    assert (metrics["answer_tokens_before"], metrics["answer_tokens_after"]) == (5.0, 4.0)
    assert (metrics["ended_share_before"], metrics["ended_share_after"]) == (0.25, 0.75)
