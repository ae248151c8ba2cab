"""The loop of PPO on a language model: sample, score, and a few epochs on what was sampled (Ouyang et al. 2022, C.4).

Each step draws prompts, samples an answer to each, scores the answers, and takes minibatches of them through the
clipped objective of `assay/reinforcement/ppo_equations.py`. The KL coefficient follows the divergence from
the reference. The learning rates fall linearly from step to step, as in Huang et al. (2022), detail 4.

Deviations from the papers:
1. The value function is a linear head on the policy's own states that sends no gradient back, where Ouyang et al. train
   a second model that starts as the reward model: with dozens of steps a head learns more than a model would.
2. Dropout is off, in updates too, so that the policy that is trained is the one that answered.
3. A step whose answers are further from the reference than `max_kl` ends the run, and the parameters of the latest step
   that was not are put back.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.progress import SECONDS_BETWEEN_LINES
from assay.reinforcement import ppo_equations as equations
from assay.reinforcement.held_out import Prompts, Score
from assay.reinforcement.policy import Policy, ValueHead, copy_values
from assay.reinforcement.rollouts import (
    SampledAnswer,
    Sampling,
    TokenStatistics,
    frozen_statistics,
    reference_log_probabilities,
    sample_answers,
    token_statistics,
)


class PpoTraining(Sampling):
    """What the loop takes from the `ppo` section of `params.yaml`; divergences are in nats an answer.

    Attributes:
        steps: batches of answers that are sampled, `prompts_per_step` each.
        epochs_per_step: passes over a batch, by updates of `minibatch_size` answers.
        learning_rate: of the policy, in the first step; `value_learning_rate` is that of the value head.
        max_grad_norm: the policy's gradients are scaled down to this global norm, and the value head's.
        clip_range: of the probability ratio; `value_clip_range` is that of a value's change in a step.
        gamma: discount of what comes a token later; `gae_lambda` is λ of the advantages.
        entropy_coefficient: what a nat of entropy a token is worth; Schulman et al. (2017), c2 of equation 9.
        missing_eos_penalty: taken from the reward of an answer that does not end.
        initial_kl_coefficient: what a nat of divergence from the reference costs at the start.
        target_kl: that the controller steers to, with `kl_gain`.
        max_kl: beyond it the run ends.
    """

    steps: int = Field(ge=1, le=1_000_000)
    prompts_per_step: int = Field(ge=1, le=65536)
    epochs_per_step: int = Field(ge=1, le=100)
    minibatch_size: int = Field(ge=1, le=65536)
    learning_rate: float = Field(gt=0, le=1)
    value_learning_rate: float = Field(gt=0, le=1)
    max_grad_norm: float = Field(gt=0)
    clip_range: float = Field(gt=0, lt=1)
    value_clip_range: float = Field(gt=0)
    gamma: float = Field(ge=0, le=1)
    gae_lambda: float = Field(ge=0, le=1)
    entropy_coefficient: float = Field(ge=0)
    missing_eos_penalty: float = Field(ge=0)
    initial_kl_coefficient: float = Field(ge=0)
    target_kl: float = Field(gt=0)
    kl_gain: float = Field(ge=0, le=1)
    max_kl: float = Field(gt=0)


STEP_COLUMNS = (
    *("step", "reward", "reward_sd", "score", "kl", "kl_k3", "entropy", "answer_tokens", "ended_share", "beta"),
    *("learning_rate", "policy_loss", "value_loss", "clip_fraction", "update_kl", "explained_variance"),
)
"""What is seen in one step, before its update where nothing else is said.

- `step`: number, from 1;
- `reward`: mean of the reward model's rewards; `reward_sd` their standard deviation;
- `score`: mean of what was learnt from: rewards, less the penalty for answers that do not end;
- `kl`: to the reference, nats an answer, by the estimator k1, which is what `beta` follows; `kl_k3` by k3;
- `entropy`: of the policy, nats a token;
- `answer_tokens`: mean length;
- `beta`: the KL coefficient;
- `policy_loss`: mean over the minibatches, as `value_loss` and `clip_fraction` (share of tokens);
- `update_kl`: likewise, from the policy that sampled to the one being updated, nats a token;
- `explained_variance`: of the returns, by the values that advantages were taken by.
"""


@dataclass(frozen=True)
class Rollout:
    """Answers that a policy sampled in one step, as it was before its update, shape `(b,)`.

    Attributes:
        scores: what is learnt from: rewards, less the penalty for answers that do not end.
        now: what the policy says of the tokens.
        reference: logarithm of the tokens' probabilities under the reference, shape `(b, t)`.
    """

    answers: list[SampledAnswer]
    rewards: NDArray[np.float64]
    scores: NDArray[np.float64]
    ended: NDArray[np.bool_]
    now: TokenStatistics
    reference: torch.Tensor

    def kl(self, estimator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        """Mean divergence from the reference, nats an answer."""
        of_tokens = estimator(self.now.log_probabilities, self.reference) * self.now.mask
        return float(of_tokens.sum(dim=1).mean())


@dataclass(frozen=True)
class Returns:
    """What tokens are worth, shape `(b, t)`: by the value head before the update, whitened, and what it is to learn."""

    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


@dataclass(frozen=True)
class PpoRun:
    """The steps that were done, by `STEP_COLUMNS`, the one that ended the run early (0: none), and the last `beta`."""

    steps: list[dict[str, float]]
    kl_ran_away_at_step: int
    beta: float


@dataclass(frozen=True)
class Learner:
    """What is trained, its optimizer, and the learning rates of the steps."""

    policy: Policy
    value_head: ValueHead
    optimizer: torch.optim.Optimizer
    annealing: torch.optim.lr_scheduler.LRScheduler


def draw_prompts(prompts: int, per_step: int, steps: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Row numbers of the prompts of each step, shape `(per_step,)` each: every prompt once before any comes again."""
    passes = -(-per_step * steps // prompts)
    order = np.concatenate([random.permutation(prompts) for _ in range(passes)])
    return [order[start : start + per_step] for start in range(0, per_step * steps, per_step)]


@torch.no_grad()
def roll_out(
    policy: Policy,
    prompts: Prompts,
    rows: NDArray[np.int64],
    score: Score,
    params: PpoTraining,
    device: Device,
    seed: int,
) -> Rollout:
    """Sample an answer to each prompt of some rows and score it, by the reward and by the reference."""
    answers = sample_answers(policy, [prompts.token_ids[row] for row in rows], params, device, seed, None)
    rewards = score([prompts.chats[row] for row in rows], [one.text for one in answers])
    ended = np.array([one.ended for one in answers])
    now = frozen_statistics(policy, answers, params, device)
    reference = reference_log_probabilities(policy, answers, now, params, device)
    return Rollout(answers, rewards, rewards - params.missing_eos_penalty * ~ended, ended, now, reference)


@torch.no_grad()
def estimate_returns(value_head: ValueHead, rollout: Rollout, beta: float, params: PpoTraining) -> Returns:
    """Values, whitened advantages and returns of the tokens of answers."""
    now = rollout.now
    values = value_head(now.states) * now.mask
    scores = torch.from_numpy(rollout.scores).float().to(values.device)
    at_tokens = equations.token_rewards(scores, now.log_probabilities, rollout.reference, now.mask, beta)
    advantages, returns = equations.generalised_advantages(at_tokens, values, now.mask, params.gamma, params.gae_lambda)
    return Returns(values, equations.whiten(advantages, now.mask), returns)


def update(
    learner: Learner,
    rollout: Rollout,
    found: Returns,
    params: PpoTraining,
    device: Device,
    random: np.random.Generator,
    step: int,
) -> dict[str, float]:
    """Take minibatches of a batch of answers through the clipped objective; returns the means of `minibatch_loss`."""
    policy, value_head, optimizer = learner.policy, learner.value_head, learner.optimizer
    seen: list[dict[str, float]] = []
    for _ in range(params.epochs_per_step):
        order = random.permutation(len(rollout.answers))
        for start in range(0, len(order), params.minibatch_size):
            rows = order[start : start + params.minibatch_size]
            loss, figures = minibatch_loss(learner, rollout, found, rows, params, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(policy.trainable, params.max_grad_norm)
            nn.utils.clip_grad_norm_(value_head.parameters(), params.max_grad_norm)
            _require_finite(step, params, {"loss": float(loss.detach()), "norm of its gradient": float(norm)})
            optimizer.step()
            seen.append(figures)
    return {name: float(np.mean([one[name] for one in seen])) for name in seen[0]}


def minibatch_loss(
    learner: Learner, rollout: Rollout, found: Returns, rows: NDArray[np.int64], params: PpoTraining, device: Device
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of some answers, and `policy_loss`, `value_loss`, `clip_fraction` and `update_kl` of `STEP_COLUMNS`."""
    answers = [rollout.answers[row] for row in rows]
    now = token_statistics(learner.policy, answers, params.temperature, params.minibatch_size, device)
    part, longest = torch.from_numpy(rows).to(device.device), now.mask.shape[1]

    def of_part(values: torch.Tensor) -> torch.Tensor:
        return values[part, :longest]

    sampled, advantages = of_part(rollout.now.log_probabilities), of_part(found.advantages)
    policy_loss = equations.clipped_policy_loss(now.log_probabilities, sampled, advantages, now.mask, params.clip_range)
    value_loss = equations.clipped_value_loss(
        learner.value_head(now.states), of_part(found.values), of_part(found.returns), now.mask, params.value_clip_range
    )
    loss = policy_loss.loss - params.entropy_coefficient * equations.masked_mean(now.entropies, now.mask) + value_loss
    return loss, {
        "policy_loss": float(policy_loss.loss.detach()),
        "value_loss": float(value_loss.detach()),
        "clip_fraction": float(policy_loss.clip_fraction),
        "update_kl": float(policy_loss.approximate_kl),
    }


def train_ppo(
    policy: Policy,
    value_head: ValueHead,
    prompts: Prompts,
    score: Score,
    params: PpoTraining,
    device: Device,
    random: np.random.Generator,
) -> PpoRun:
    """Train the policy and a new value head in place; an `InputError` if a loss or a reward is not finite.

    The bias of the value head is set to the mean score of the first batch.
    """
    learner = new_learner(policy, value_head, params)
    beta = params.initial_kl_coefficient
    done: list[dict[str, float]] = []
    within_bounds = copy_values(policy.trainable)
    policy.model.eval()
    started = last_line = time.monotonic()
    for step, rows in enumerate(draw_prompts(len(prompts.ids), params.prompts_per_step, params.steps, random), 1):
        rollout = roll_out(policy, prompts, rows, score, params, device, int(random.integers(2**32)))
        seen = {"reward": float(rollout.scores.mean()), "divergence from the reference": rollout.kl(equations.kl_k1)}
        _require_finite(step, params, seen)
        if rollout.kl(equations.kl_k1) > params.max_kl:
            with torch.no_grad():
                for parameter, value in zip(policy.trainable, within_bounds, strict=True):
                    parameter.copy_(value)
            return PpoRun(done, step, beta)
        within_bounds = copy_values(policy.trainable)

        if step == 1:
            nn.init.constant_(value_head.linear.bias, float(rollout.scores.mean()))
        found = estimate_returns(value_head, rollout, beta, params)
        updates = update(learner, rollout, found, params, device, random, step)
        rate = float(learner.annealing.get_last_lr()[0])
        done.append(summarise_step(step, rollout, found, beta, rate, updates))
        beta = equations.adapt_beta(beta, done[-1]["kl"], params.target_kl, params.kl_gain)
        learner.annealing.step()
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            _print_line(done[-1], params.steps, last_line - started)
    return PpoRun(done, 0, beta)


def new_learner(policy: Policy, value_head: ValueHead, params: PpoTraining) -> Learner:
    """A policy and its value head with AdamW, and learning rates that fall linearly to a `steps`-th.

    At a constant rate Adam's last steps are as large as its first, and a short run ends wherever noise takes it.
    """
    groups = [
        {"params": policy.trainable, "lr": params.learning_rate},
        {"params": list(value_head.parameters()), "lr": params.value_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    last = max(1, params.steps - 1)
    annealing = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / params.steps, total_iters=last)
    return Learner(policy, value_head, optimizer, annealing)


def summarise_step(
    step: int, rollout: Rollout, found: Returns, beta: float, learning_rate: float, updates: dict[str, float]
) -> dict[str, float]:
    """What was seen in a step, by `STEP_COLUMNS`; `updates` are the means that `update` returns."""
    now = rollout.now
    return {
        "step": step,
        "reward": float(rollout.rewards.mean()),
        "reward_sd": float(rollout.rewards.std()),
        "score": float(rollout.scores.mean()),
        "kl": rollout.kl(equations.kl_k1),
        "kl_k3": rollout.kl(equations.kl_k3),
        "entropy": float(equations.masked_mean(now.entropies, now.mask)),
        "answer_tokens": float(now.mask.sum(dim=1).float().mean()),
        "ended_share": float(rollout.ended.mean()),
        "beta": beta,
        "learning_rate": learning_rate,
        **updates,
        "explained_variance": equations.explained_variance(found.values, found.returns, now.mask),
    }


def _print_line(seen: dict[str, float], steps: int, seconds: float) -> None:
    left = seconds / seen["step"] * (steps - seen["step"])
    values = f"reward {seen['reward']:.3f}, KL {seen['kl']:.2f} nats, {seen['ended_share']:.0%} of answers end"
    print(f"ppo: {seen['step']}/{steps} step ({values}; {left:.0f} s left)", file=sys.stderr, flush=True)


def _require_finite(step: int, params: PpoTraining, values: dict[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(
                f"PPO, step {step}: the {name} is {value} at a learning rate of {params.learning_rate:.3g}; lower "
                "`ppo.learning_rate` or `ppo.clip_range`, or raise `ppo.initial_kl_coefficient`"
            )
