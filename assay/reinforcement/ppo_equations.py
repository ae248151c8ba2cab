"""The equations of PPO on a language model, each a function of tensors.

A token is an action, the text before it the state, and an answer an episode that ends with its last token. What a
reward model says of the answer arrives there; on the way every token costs its share of the divergence from the model
that training began with.

Sources: Schulman et al. (2016), High-dimensional continuous control using generalized advantage estimation; Schulman et
al. (2017), Proximal policy optimization algorithms; Ziegler et al. (2019), Fine-tuning language models from human
preferences; Stiennon et al. (2020), Learning to summarize from human feedback; Ouyang et al. (2022), Training language
models to follow instructions with human feedback; Huang et al. (2022), The 37 implementation details of PPO.

Legend: `b` answers, `t` tokens of the longest. Answers stand at the left of their rows; `mask` is true on an answer's
tokens, the one that ends it among them, and false behind it. All tensors have shape `(b, t)`, 0 behind the answers,
unless said otherwise. Natural logarithms throughout, so divergences are in nats.
"""

from dataclasses import dataclass

import torch

WHITENING_EPSILON = 1e-8
MAX_RELATIVE_KL_ERROR = 0.2
"""Ziegler et al. (2019), section 2.2: the controller's error is clipped to this."""


@dataclass(frozen=True)
class PolicyLoss:
    """The clipped objective of a minibatch, to be minimised; all are scalars.

    `clip_fraction` is the share of tokens at which the clipped term was the smaller one, `approximate_kl` is from the
    policy that sampled to the present one, nats a token.
    """

    loss: torch.Tensor
    clip_fraction: torch.Tensor
    approximate_kl: torch.Tensor


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of answers, a scalar."""
    return (values * mask).sum() / mask.sum()


def kl_k1(log_probabilities: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Schulman's estimator k1 of KL(p ‖ q) at tokens drawn from p: log p − log q, unbiased, of either sign.

    J. Schulman (2020), Approximating KL divergence, http://joschu.net/blog/kl-approx.html. Logarithms of the tokens'
    probabilities under p and under q have any shape, the same.
    """
    return log_probabilities - others


def kl_k3(log_probabilities: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Schulman's estimator k3 of the same: (r − 1) − log r with r = q / p, unbiased too, and never below 0."""
    log_ratio = others - log_probabilities
    return torch.expm1(log_ratio) - log_ratio


def token_rewards(
    scores: torch.Tensor, log_probabilities: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """Reward of each token: −β (log π − log π_ref), and at an answer's last token its score besides.

    Ziegler et al. (2019), equation 2, spread over tokens as in Stiennon et al. (2020), section 3.4, and Ouyang et al.
    (2022), equation 2 without its pretraining term. Scores are of whole answers, shape `(b,)`; logarithms of
    probabilities are under the policy that sampled and under the reference; every answer has a token.
    """
    rewards = -beta * kl_k1(log_probabilities, reference) * mask
    last = mask.sum(dim=1) - 1
    rewards[torch.arange(len(scores), device=rewards.device), last] += scores
    return rewards


def generalised_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages by GAE, and the returns that values are to learn.

    Schulman et al. (2016), equations 10 and 16, with g the discount: δ_t = r_t + g V(s_{t+1}) − V(s_t) and
    A_t = δ_t + g λ A_{t+1}, where both V and A are 0 behind the last token. The return is A_t + V(s_t), as in TD(λ).
    Values are of the states that the tokens were drawn in.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    advantage = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(advantage)
    for token in reversed(range(rewards.shape[1])):
        error = rewards[:, token] + gamma * following - values[:, token]
        advantage = (error + gamma * gae_lambda * advantage) * mask[:, token]
        advantages[:, token] = advantage
        following = values[:, token]
    return advantages, (advantages + values) * mask


def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values with mean 0 and variance 1 over the tokens of answers; Huang et al. (2022), detail 7."""
    centred = values - masked_mean(values, mask)
    return centred * torch.rsqrt(masked_mean(centred.square(), mask) + WHITENING_EPSILON) * mask


def clipped_policy_loss(
    log_probabilities: torch.Tensor,
    old_log_probabilities: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    clip_range: float,
) -> PolicyLoss:
    """Minus the clipped surrogate objective: −mean min(r A, clip(r, 1 − ε, 1 + ε) A), r = π / π_old.

    Schulman et al. (2017), equation 7, with ε the clip range; old probabilities are of the policy that sampled.
    """
    ratio = torch.exp((log_probabilities - old_log_probabilities) * mask)
    plain = ratio * advantages
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return PolicyLoss(
        -masked_mean(torch.minimum(plain, clipped), mask),
        masked_mean((clipped < plain).float(), mask).detach(),
        masked_mean(kl_k3(old_log_probabilities, log_probabilities) * mask, mask).detach(),
    )


def clipped_value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip_range: float
) -> torch.Tensor:
    """½ mean max((V − R)², (clip(V, V_old ± ε) − R)²), a scalar; Huang et al. (2022), detail 9, as in Ziegler's code.

    Old values are those by which advantages were taken; ε, the clip range, is in units of the reward.
    """
    clipped = torch.clamp(values, old_values - clip_range, old_values + clip_range)
    return 0.5 * masked_mean(torch.maximum((values - returns).square(), (clipped - returns).square()), mask)


def entropies(log_distributions: torch.Tensor) -> torch.Tensor:
    """Entropy of log distributions, shape `(..., v)` → `(...)`; Schulman et al. (2017), the S of equation 9."""
    return -(log_distributions.exp() * log_distributions).sum(dim=-1)


def adapt_beta(beta: float, kl: float, target: float, gain: float) -> float:
    """The adaptive controller of Ziegler et al. (2019), section 2.2: β (1 + K clip((KL − target) / target, −0.2, 0.2)).

    The KL is in nats an answer; K, the gain, is 0.1 in the paper, and 0 keeps β.
    """
    error = max(-MAX_RELATIVE_KL_ERROR, min(MAX_RELATIVE_KL_ERROR, (kl - target) / target))
    return beta * (1 + gain * error)


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 − Var(R − V) / Var(R) over tokens of answers: 1 is perfect, 0 no better than a constant; 0 if R has none."""
    wanted = returns[mask]
    variance = float(wanted.var(correction=0))
    return 1 - float((wanted - values[mask]).var(correction=0)) / variance if variance > 0 else 0.0
