from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from numpy.typing import NDArray

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.language_models.chat_template import Message, add_answers, tokenise_chats, tokenise_prompts
from assay.language_models.checkpoint import answer_likelihood, cut_at_end, load_causal_lm
from assay.reinforcement.held_out import Prompts
from assay.reinforcement.policy import Policy, ValueHead, as_reference, load_policy
from assay.reinforcement.ppo_loop import PpoRun, PpoTraining, draw_prompts, train_ppo
from assay.reinforcement.rollouts import SampledAnswer, Sampling, frozen_statistics, sample_answers, token_statistics
from tests.policy_workspace import PPO_LOOP, save_adapter

CPU = Device(torch.device("cpu"), torch.float32)
CHATS = [
    [{"role": "user", "content": text}]
    for text in ("How long?", "Who pays for the permit of a neighbour?", "Why", "What is a permit, and who gives it?")
]
SETTINGS: dict[str, Any] = PPO_LOOP | {"steps": 25, "prompts_per_step": 32, "minibatch_size": 16, "batch_size": 32}
SETTINGS |= {"max_new_tokens": 8, "temperature": 1.0, "value_clip_range": 0.5, "missing_eos_penalty": 0.0}
SETTINGS |= {"target_kl": 6.0}


def sampling(batch_size: int) -> Sampling:
    return Sampling(max_new_tokens=8, temperature=1.0, batch_size=batch_size)


def share_of_lower_case(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
    """A rule that is easy to learn, in the place of a reward model."""
    return np.array([sum(letter.isascii() and letter.islower() for letter in text) / 8 for text in answers])


@pytest.fixture(scope="session")
def tiny_adapter(tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a LoRA adapter on `tiny_chat_model`, away from where adapters start."""
    folder = tmp_path_factory.mktemp("tiny_adapter")
    torch.manual_seed(0)
    save_adapter(*load_causal_lm(tiny_chat_model, CPU.device), folder)
    return folder


def trained(
    folder: Path, settings: dict[str, Any], seed: int = 1, policy: Policy | None = None
) -> tuple[Policy, ValueHead, PpoRun]:
    policy = policy or load_policy(folder, CPU.device)
    head = ValueHead(policy.model.config.hidden_size)
    run = train_ppo(
        policy,
        head,
        Prompts(list("abcd"), CHATS, tokenise_prompts(policy.tokenizer, CHATS), 0),
        settings.get("score", share_of_lower_case),
        PpoTraining.model_validate(SETTINGS).model_copy(update=settings),
        CPU,
        np.random.default_rng(seed),
    )
    return policy, head, run


@pytest.mark.parametrize("kind", [pytest.param("adapter", marks=pytest.mark.slow), "whole"])
def test_ppo_raises_the_reward_and_stays_near_the_reference(
    tiny_chat_model: Path, tiny_adapter: Path, kind: str
) -> None:
    # The adapter of so small a model can do little: its output layer is frozen.
    folder, rate, gain = {"adapter": (tiny_adapter, 0.03, 0.03), "whole": (tiny_chat_model, 0.003, 0.3)}[kind]
    untrained = load_policy(folder, CPU.device)
    before = tensors(untrained)
    policy, head, run = trained(folder, SETTINGS | {"steps": 30, "learning_rate": rate})
    assert [step["step"] for step in run.steps] == list(range(1, 31))
    assert run.kl_ran_away_at_step == 0
    assert run.steps[0]["learning_rate"] == rate
    assert run.steps[-1]["learning_rate"] == pytest.approx(rate / 30)
    assert mean_reward(policy) > mean_reward(untrained) + gain
    # The divergence is measured from the policy that training began with, and is bounded.
    assert run.steps[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert run.steps[0]["update_kl"] > 0
    assert 0.2 < run.steps[-1]["kl_k3"] < 15
    assert run.steps[0]["beta"] == 0.05
    assert run.steps[1]["beta"] == pytest.approx(0.05 * (1 - 0.2 * 0.1))
    # The rest of the model is as it was, and the value head learnt something.
    trainable = {id(parameter) for parameter in policy.trainable}
    for (name, parameter), value in zip(policy.model.named_parameters(), before, strict=True):
        assert torch.equal(parameter.detach(), value) == (id(parameter) not in trainable), name
    assert head.linear.weight.abs().max() > 0


def mean_reward(policy: Policy) -> float:
    """Of 1,000 answers, so that chance moves it by less than 0.01."""
    prompts = tokenise_prompts(policy.tokenizer, CHATS) * 250
    answers = sample_answers(policy, prompts, sampling(250), CPU, 9, None)
    return float(share_of_lower_case([], [one.text for one in answers]).mean())


def tensors(policy: Policy) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in policy.model.parameters()]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tiny_adapter: Path) -> None:
    few = SETTINGS | {"steps": 3}
    (one, head, run), (other, other_head, other_run) = trained(tiny_adapter, few), trained(tiny_adapter, few)
    assert run == other_run
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    assert torch.equal(head.linear.weight, other_head.linear.weight)
    assert trained(tiny_adapter, few, seed=2)[2] != run


def test_a_divergence_that_runs_away_ends_the_run_with_the_parameters_before(tiny_chat_model: Path) -> None:
    steep = SETTINGS | {"learning_rate": 0.02, "initial_kl_coefficient": 0.0, "max_kl": 2.0}
    policy = load_policy(tiny_chat_model, CPU.device)
    by_step = []

    def score(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
        by_step.append(tensors(policy))
        return share_of_lower_case(chats, answers)

    _, _, run = trained(tiny_chat_model, steep | {"score": score}, policy=policy)
    assert run.kl_ran_away_at_step == len(run.steps) + 1 == len(by_step)
    assert max(step["kl"] for step in run.steps) <= 2
    assert all(torch.equal(a, b) for a, b in zip(tensors(policy), by_step[-2], strict=True))


def test_rewards_that_are_no_numbers_end_the_run(tiny_adapter: Path) -> None:
    def broken(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
        return np.full(len(answers), np.nan)

    with pytest.raises(InputError, match=r"step 1: the reward is nan .*lower `ppo\.learning_rate`"):
        trained(tiny_adapter, SETTINGS | {"score": broken})
    with pytest.raises(InputError, match=r"step \d+: the "):
        trained(tiny_adapter, SETTINGS | {"learning_rate": 1e30})


def test_an_answer_that_does_not_end_is_penalised(tiny_adapter: Path) -> None:
    _, _, run = trained(tiny_adapter, SETTINGS | {"steps": 1, "missing_eos_penalty": 3.0})
    (step,) = run.steps
    assert step["ended_share"] < 1
    assert step["score"] == pytest.approx(step["reward"] - 3 * (1 - step["ended_share"]))


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    draws = draw_prompts(5, 2, 5, np.random.default_rng(0))
    assert [len(rows) for rows in draws] == [2] * 5
    flat = np.concatenate(draws)
    assert sorted(flat[:5]) == sorted(flat[5:]) == list(range(5))
    assert [len(rows) for rows in draw_prompts(2, 5, 3, np.random.default_rng(0))] == [5] * 3


def test_what_stands_behind_the_end_does_not_count() -> None:
    # The token that ends an answer, 2, is the padding token too.
    assert cut_at_end([7, 2, 2, 2], [2]) == ([7, 2], True)
    assert cut_at_end([2, 2, 2], [2]) == ([2], True)
    assert cut_at_end([7, 8, 9], [2]) == ([7, 8, 9], False)
    assert cut_at_end([7, 0, 9, 2], [0, 2]) == ([7, 0], True)


@pytest.mark.parametrize("kind", ["lora", "whole", "prompt", "prefix"])
def test_statistics_are_those_of_each_answer_alone(tiny_chat_model: Path, kind: str) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_causal_lm(tiny_chat_model, CPU.device)
    configs = {
        "lora": peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    if kind != "whole":
        model = peft.get_peft_model(model, configs[kind]).eval()
    policy = Policy(model, tokenizer, [], [])
    prompts = tokenise_prompts(tokenizer, CHATS)
    texts = ["Two weeks.", "a", "It depends on the roof.", "No"]
    answers = [
        SampledAnswer(prompt, [*tokenizer(text)["input_ids"], 2], True, text)
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    together = frozen_statistics(policy, answers, sampling(4), CPU)
    in_pairs = frozen_statistics(policy, answers, sampling(2), CPU)
    assert together.mask.sum(dim=1).tolist() == [11, 2, 24, 3]
    for name in ("log_probabilities", "entropies", "states"):
        torch.testing.assert_close(getattr(together, name), getattr(in_pairs, name), atol=1e-5, rtol=1e-4)
    assert torch.equal(together.mask, in_pairs.mask)
    assert together.log_probabilities[~together.mask].abs().max() == 0
    # As `answer_likelihood` has them, which computes every logit.
    likelihood = answer_likelihood(model, tokenise_chats(tokenizer, add_answers(CHATS, texts)), 0, 4, CPU, None)
    np.testing.assert_allclose(together.log_probabilities.sum(dim=1).numpy(), likelihood.log_probabilities, rtol=1e-4)
    # One answer by hand: softmax of the logits at a temperature of 2.
    if kind == "whole":
        with torch.inference_mode():
            out = model(input_ids=torch.tensor([prompts[0] + answers[0].answer_ids]), output_hidden_states=True)
            distributions = (out.logits[0] / 2).log_softmax(dim=-1)
            first = len(prompts[0]) - 1
            warm = token_statistics(policy, answers[:1], 2.0, 1, CPU)
            by_hand = [float(distributions[first + place, token]) for place, token in enumerate(answers[0].answer_ids)]
            np.testing.assert_allclose(warm.log_probabilities[0].numpy(), by_hand, rtol=1e-4)
            at_first = distributions[first]
            assert float(warm.entropies[0, 0]) == pytest.approx(float(-(at_first.exp() * at_first).sum()), rel=1e-4)
            torch.testing.assert_close(warm.states[0, 0], out.hidden_states[-1][0, first])


def test_answers_are_sampled_from_the_whole_distribution_that_is_scored(tiny_chat_model: Path) -> None:
    policy = load_policy(tiny_chat_model, CPU.device)
    prompt = tokenise_prompts(policy.tokenizer, CHATS[:1])[0]
    once = Sampling(max_new_tokens=1, temperature=1.5, batch_size=500)
    answers = sample_answers(policy, [prompt] * 4000, once, CPU, 3, None)
    counts = np.bincount([one.answer_ids[0] for one in answers], minlength=len(policy.tokenizer))
    with torch.inference_mode():
        logits = policy.model(input_ids=torch.tensor([prompt])).logits[0, -1]
    wanted = (logits / 1.5).softmax(dim=-1).double().numpy()
    # Far more kinds of tokens than the 50 that transformers would leave, and each about as often as it should come.
    assert (counts > 0).sum() > 200
    z = (counts - 4000 * wanted) / np.sqrt(4000 * wanted * (1 - wanted))
    assert np.abs(z).max() < 4.5
    again = sample_answers(policy, [prompt] * 4000, once, CPU, 3, None)
    assert again == answers


@pytest.mark.parametrize("kind", ["adapter", "whole"])
def test_the_reference_is_what_the_policy_began_as(tiny_chat_model: Path, tiny_adapter: Path, kind: str) -> None:
    policy = load_policy({"adapter": tiny_adapter, "whole": tiny_chat_model}[kind], CPU.device)
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        before = policy.model(input_ids=ids).logits
        for parameter in policy.trainable:
            parameter.add_(0.1)
        after = policy.model(input_ids=ids).logits
        with as_reference(policy):
            assert torch.equal(policy.model(input_ids=ids).logits, before)
        assert torch.equal(policy.model(input_ids=ids).logits, after)
    assert not torch.equal(before, after)


def test_a_value_head_takes_any_scale_and_gives_no_gradient_back() -> None:
    head = ValueHead(32)
    states = torch.randn(2, 3, 32, requires_grad=True)
    assert head(states).shape == (2, 3)
    assert head(states).abs().max() == 0
    with torch.no_grad():
        head.linear.weight.normal_()
        head.linear.bias.fill_(0.5)
    # The scale and the mean of a state do not show, and no gradient goes back to it.
    torch.testing.assert_close(head(states), head(3 * states + 1), atol=1e-4, rtol=1e-4)
    head(states).sum().backward()
    assert states.grad is None
