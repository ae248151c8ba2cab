import math

import pytest
import torch

from assay.reinforcement.ppo_equations import (
    adapt_beta,
    clipped_policy_loss,
    clipped_value_loss,
    entropies,
    explained_variance,
    generalised_advantages,
    kl_k1,
    kl_k3,
    masked_mean,
    token_rewards,
    whiten,
)

MASK = torch.tensor([[True, True, True], [True, False, False]])
"""An answer of three tokens, and one of a single token."""


def test_estimators_of_the_divergence_by_hand_and_in_the_mean() -> None:
    # p = 0.5, q = 0.25: k1 = ln 2; r = q / p = 1/2, k3 = (1/2 - 1) - ln(1/2) = ln 2 - 1/2.
    p, q = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    assert kl_k1(p, q).item() == pytest.approx(math.log(2))
    assert kl_k3(p, q).item() == pytest.approx(math.log(2) - 0.5)
    assert kl_k1(q, p).item() == pytest.approx(-math.log(2))
    assert kl_k3(q, p).item() == pytest.approx(1 - math.log(2))
    # Over all tokens, weighted by p, both give the divergence itself.
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    exact = float((p * (p / q).log()).sum())
    assert float((p * kl_k1(p.log(), q.log())).sum()) == pytest.approx(exact)
    assert float((p * kl_k3(p.log(), q.log())).sum()) == pytest.approx(exact)


def test_rewards_of_tokens_by_hand() -> None:
    log_probabilities = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -7.0, -7.0]])
    reference = torch.tensor([[-1.5, -2.0, -2.0], [-0.5, -1.0, -1.0]])
    # Log ratios 0.5, 0, -1 and -0.5; at beta = 0.1 they cost 0.05, 0, -0.1 and -0.05; scores 2 and -1 come last.
    actual = token_rewards(torch.tensor([2.0, -1.0]), log_probabilities, reference, MASK, beta=0.1)
    torch.testing.assert_close(actual, torch.tensor([[-0.05, 0.0, 2.1], [-0.95, 0.0, 0.0]]))


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.5, 1.0], [2.0, 0.0, 0.0]])
    # What a value head says behind an answer must not count.
    values = torch.tensor([[0.5, 1.0, 0.25], [1.0, 9.0, 9.0]])
    # gamma = 0.5, lambda = 0.8, so gamma * lambda = 0.4.
    # delta_3 = 1 - 0.25 = 0.75; delta_2 = 0.5 + 0.5 * 0.25 - 1 = -0.375; delta_1 = 0 + 0.5 * 1 - 0.5 = 0
    # A_3 = 0.75; A_2 = -0.375 + 0.4 * 0.75 = -0.075; A_1 = 0 + 0.4 * -0.075 = -0.03. The other: 2 - 1 = 1.
    advantages, returns = generalised_advantages(rewards, values, MASK, gamma=0.5, gae_lambda=0.8)
    torch.testing.assert_close(advantages, torch.tensor([[-0.03, -0.075, 0.75], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[0.47, 0.925, 1.0], [2.0, 0.0, 0.0]]))


def test_advantages_at_the_ends_of_lambda() -> None:
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 3) * MASK, torch.randn(2, 3)
    # lambda = 1: what is still to come, less the value (Schulman et al. 2016, equation 18); lambda = 0: delta (17).
    advantages, returns = generalised_advantages(rewards, values, MASK, 1.0, 1.0)
    to_come = rewards.flip(1).cumsum(1).flip(1) * MASK
    torch.testing.assert_close(returns, to_come)
    torch.testing.assert_close(advantages, to_come - values * MASK)
    advantages, _ = generalised_advantages(rewards, values, MASK, 1.0, 0.0)
    assert advantages[0, 1].item() == pytest.approx((rewards[0, 1] + values[0, 2] - values[0, 1]).item())
    assert advantages[1, 0].item() == pytest.approx((rewards[1, 0] - values[1, 0]).item())


def test_whitening_by_hand() -> None:
    # 1, 2, 3 and 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; the 100s are behind an answer.
    actual = whiten(torch.tensor([[1.0, 2.0, 3.0], [6.0, 100.0, 100.0]]), MASK)
    scale = math.sqrt(3.5)
    torch.testing.assert_close(actual, torch.tensor([[-2 / scale, -1 / scale, 0.0], [3 / scale, 0.0, 0.0]]))
    assert whiten(torch.ones(2, 3), MASK).abs().max() == 0


def test_policy_loss_by_hand() -> None:
    ratios = torch.tensor([[1.0, 1.5, 0.5], [1.5, 40.0, 40.0]])
    advantages = torch.tensor([[1.0, 2.0, 1.0], [-1.0, 5.0, 5.0]])
    old = torch.full((2, 3), -2.0)
    # epsilon = 0.2. 1 · 1 = 1; min(1.5 · 2, 1.2 · 2) = 2.4, clipped; min(0.5, 0.8) = 0.5; min(-1.5, -1.2) = -1.5.
    actual = clipped_policy_loss(old + ratios.log(), old, advantages, MASK, clip_range=0.2)
    assert actual.loss.item() == pytest.approx(-(1 + 2.4 + 0.5 - 1.5) / 4)
    assert actual.clip_fraction.item() == pytest.approx(1 / 4)
    # k3 of KL(old ‖ new): ratio - 1 - ln ratio: 0, 0.5 - ln 1.5, -0.5 - ln 0.5, 0.5 - ln 1.5.
    wanted = (2 * (0.5 - math.log(1.5)) + (-0.5 - math.log(0.5))) / 4
    assert actual.approximate_kl.item() == pytest.approx(wanted)


def test_policy_loss_has_no_gradient_where_it_is_clipped_nor_behind_answers() -> None:
    old = torch.zeros(2, 3)
    log_probabilities = torch.tensor([[0.0, 0.5, -0.5], [0.5, 0.5, 0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]])
    clipped_policy_loss(log_probabilities, old, advantages, MASK, 0.2).loss.backward()  # type: ignore[no-untyped-call]
    assert log_probabilities.grad is not None
    # At ratio 1 it is -A / tokens; e^0.5 with A = 1 and e^-0.5 with A = -1 are clipped, e^0.5 with A = -1 is not.
    expected = torch.tensor([[-0.25, 0.0, 0.0], [0.25 * math.exp(0.5), 0.0, 0.0]])
    torch.testing.assert_close(log_probabilities.grad, expected)


def test_value_loss_by_hand() -> None:
    old = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    values = torch.tensor([[0.1, 1.0, 1.0], [1.0, 50.0, 50.0]])
    returns = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]])
    # epsilon = 0.2. 0.1² = 0.01; clipped to 0.2: max(0, 0.8²) = 0.64; 2² = 4; clipped to 1.8: max(0, 0.8²) = 0.64.
    actual = clipped_value_loss(values, old, returns, MASK, clip_range=0.2)
    assert actual.item() == pytest.approx(0.5 * (0.01 + 0.64 + 4 + 0.64) / 4)


def test_entropy_by_hand() -> None:
    # Four equal tokens: ln 4; one sure token: 0; a half and two quarters: 1.5 ln 2.
    rows = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1 - 3e-12, 1e-12, 1e-12, 1e-12], [0.5, 0.25, 0.25, 1e-12]])
    expected = torch.tensor([math.log(4), 0.0, 1.5 * math.log(2)])
    torch.testing.assert_close(entropies(rows.log()), expected, atol=1e-6, rtol=0)


def test_the_controller_by_hand() -> None:
    # Target 6. At 6 nothing changes; at 6.6 the error is 0.1; at 60 it is clipped to 0.2, at 0 to -0.2.
    assert adapt_beta(0.1, 6.0, 6.0, 0.1) == pytest.approx(0.1)
    assert adapt_beta(0.1, 6.6, 6.0, 0.1) == pytest.approx(0.101)
    assert adapt_beta(0.1, 60.0, 6.0, 0.1) == pytest.approx(0.102)
    assert adapt_beta(0.1, 0.0, 6.0, 0.1) == pytest.approx(0.098)
    assert adapt_beta(0.1, 60.0, 6.0, 0.0) == 0.1


def test_explained_variance_and_mean_see_answers_only() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0], [6.0, 99.0, 99.0]])
    assert masked_mean(returns, MASK).item() == 3
    assert explained_variance(returns, returns, MASK) == pytest.approx(1)
    assert explained_variance(torch.full((2, 3), 7.0), returns, MASK) == pytest.approx(0)
    # Errors 0, 0, 0, 2: their variance is (3 · 0.25 + 2.25) / 4 = 0.75, that of the returns 3.5.
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    assert explained_variance(values, returns, MASK) == pytest.approx(1 - 0.75 / 3.5)
    assert explained_variance(values, torch.ones(2, 3), MASK) == 0
