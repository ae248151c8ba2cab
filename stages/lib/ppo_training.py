"""The loop of PPO on a language model: sample, score, and a few epochs on what was sampled (Ouyang et al. 2022, C.4).

Each step draws prompts, samples an answer to each, scores the answers, and takes minibatches of them through the
clipped objective of `stages/lib/ppo_equations.py`. The price of a nat follows the divergence from the reference. The
learning rates fall linearly from step to step, as in Huang et al. (2022), detail 4.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.lib.chat import Message
from stages.lib.device import Device
from stages.lib.errors import InputError
from stages.lib.policy import Policy, ValueHead, as_reference, copied, has_moved
from stages.lib.ppo_equations import (
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    generalised_advantages,
    kl_k1,
    kl_k3,
    masked_mean,
    next_beta,
    token_rewards,
    whitened,
)
from stages.lib.progress import SECONDS_BETWEEN_LINES
from stages.lib.sampled_answers import (
    SampledAnswer,
    TokenStatistics,
    sample_answers,
    token_statistics,
)

Score = Callable[[Sequence[Sequence[Message]], Sequence[str]], NDArray[np.float64]]
"""From chats that do not end with an answer, and an answer to each, to rewards, shape `(b,)`."""


@dataclass(frozen=True)
class PpoStep:
    """What was seen in one step, before its update where nothing else is said.

    Attributes:
        step: number, from 1.
        reward: mean of the reward model's rewards.
        reward_sd: their standard deviation.
        score: mean of what was learnt from: rewards, less the penalty for answers that do not end.
        kl: to the reference, nats an answer, by the estimator k1, which is what `beta` follows.
        kl_k3: the same by k3.
        entropy: of the policy, nats a token.
        answer_tokens: mean length.
        ended_share: share of answers that end.
        beta: price of a nat.
        learning_rate: of the policy.
        policy_loss: mean over the minibatches.
        value_loss: likewise.
        clip_fraction: likewise, share of tokens.
        update_kl: likewise, from the policy that sampled to the one being updated, nats a token.
        explained_variance: of the returns, by the values that advantages were taken by.
    """

    step: int
    reward: float
    reward_sd: float
    score: float
    kl: float
    kl_k3: float
    entropy: float
    answer_tokens: float
    ended_share: float
    beta: float
    learning_rate: float
    policy_loss: float
    value_loss: float
    clip_fraction: float
    update_kl: float
    explained_variance: float


@dataclass(frozen=True)
class PpoRun:
    """What happened in training.

    Attributes:
        steps: those that were done.
        kl_ran_away_at_step: the step that ended the run early; 0 where none did.
        beta: price of a nat after the last step.
    """

    steps: list[PpoStep]
    kl_ran_away_at_step: int
    beta: float


def drawn_prompts(prompts: int, per_step: int, steps: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Row numbers of the prompts of each step, shape `(per_step,)` each: every prompt once before any comes again.

    Args:
        prompts: their number.
        per_step: drawn for a step.
        steps: their number.
        random: source of the draws.
    """
    passes = -(-per_step * steps // prompts)
    order = np.concatenate([random.permutation(prompts) for _ in range(passes)])
    return [order[start : start + per_step] for start in range(0, per_step * steps, per_step)]


@torch.no_grad()
def frozen_statistics(
    policy: Policy, answers: Sequence[SampledAnswer], temperature: float, batch_size: int, device: Device
) -> TokenStatistics:
    """`token_statistics` of a policy as it is now, without gradients."""
    return token_statistics(
        policy.model, answers, int(policy.tokenizer.pad_token_id), temperature, batch_size, device
    )  # fmt: skip


def reference_log_probabilities(
    policy: Policy,
    answers: Sequence[SampledAnswer],
    now: TokenStatistics,
    temperature: float,
    batch_size: int,
    device: Device,
) -> torch.Tensor:
    """How likely the reference finds the tokens of answers, shape `(b, t)`; the policy's own word before it has moved.

    Args:
        policy: with its reference.
        answers: of any number.
        now: what the policy says of them.
        temperature: divides the logits.
        batch_size: answers in a forward pass at most.
        device: where and in which precision to run.
    """
    if not has_moved(policy):
        return now.log_probabilities
    with as_reference(policy):
        return frozen_statistics(policy, answers, temperature, batch_size, device).log_probabilities


def train_ppo(
    policy: Policy,
    value_head: ValueHead,
    prompts: Sequence[Sequence[Message]],
    prompt_ids: Sequence[list[int]],
    score: Score,
    *,
    steps: int,
    prompts_per_step: int,
    epochs_per_step: int,
    minibatch_size: int,
    batch_size: int,
    max_new_tokens: int,
    temperature: float,
    learning_rate: float,
    value_learning_rate: float,
    max_gradient_norm: float,
    clip_range: float,
    value_clip_range: float,
    discount: float,
    gae_lambda: float,
    entropy_bonus: float,
    missing_end_penalty: float,
    initial_beta: float,
    target_kl: float,
    kl_gain: float,
    max_kl: float,
    new_value_head: bool,
    device: Device,
    random: np.random.Generator,
) -> PpoRun:
    """Train the policy and the value head in place.

    Args:
        policy: to be trained.
        value_head: to be trained with it.
        prompts: chats that do not end with an answer.
        prompt_ids: the same as token ids.
        score: what rewards answers.
        steps: batches of answers that are sampled.
        prompts_per_step: answers of a batch.
        epochs_per_step: passes over a batch.
        minibatch_size: answers of one update.
        batch_size: answers at a time where no gradients are taken.
        max_new_tokens: an answer is cut there.
        temperature: of the sampling.
        learning_rate: of the policy, in the first step.
        value_learning_rate: of the value head, likewise.
        max_gradient_norm: the policy's gradients are scaled down to this global norm, and the value head's.
        clip_range: of the probability ratio.
        value_clip_range: of a value's change in a step.
        discount: of what comes a token later.
        gae_lambda: λ.
        entropy_bonus: what a nat of entropy a token is worth; Schulman et al. (2017), c2 of equation 9.
        missing_end_penalty: taken from the reward of an answer that does not end.
        initial_beta: price of a nat at the start.
        target_kl: nats an answer that the controller steers to.
        kl_gain: of the controller.
        max_kl: nats an answer; beyond it the run ends.
        new_value_head: its bias is set to the mean score of the first batch.
        device: where and in which precision to run.
        random: source of all draws.

    Raises:
        InputError: a loss or a reward is not finite.
    """
    optimizer = torch.optim.AdamW(
        [
            {"params": policy.trainable, "lr": learning_rate},
            {"params": list(value_head.parameters()), "lr": value_learning_rate},
        ],
        weight_decay=0.0,
        fused=True,
    )
    # At a constant rate Adam's last steps are as large as its first, and a short run ends wherever noise takes it.
    annealing = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, total_iters=max(1, steps - 1))
    draws = drawn_prompts(len(prompts), prompts_per_step, steps, random)
    padding_id = int(policy.tokenizer.pad_token_id)
    beta = initial_beta
    done: list[PpoStep] = []
    within_bounds = copied(policy.trainable)
    policy.model.eval()
    started = last_line = time.monotonic()
    for number, rows in enumerate(draws, 1):
        answers = sample_answers(
            policy.model, policy.tokenizer, [prompt_ids[row] for row in rows], max_new_tokens, temperature, batch_size,
            device, int(random.integers(2**32)), None,
        )  # fmt: skip
        rewards = score([prompts[row] for row in rows], [one.text for one in answers])
        ended = np.array([one.ended for one in answers])
        scores = rewards - missing_end_penalty * ~ended
        old = frozen_statistics(policy, answers, temperature, batch_size, device)
        reference = reference_log_probabilities(policy, answers, old, temperature, batch_size, device)
        kl = float((kl_k1(old.log_probabilities, reference) * old.mask).sum(dim=1).mean())
        _require_finite(number, learning_rate, {"reward": float(scores.mean()), "divergence from the reference": kl})
        if kl > max_kl:
            with torch.no_grad():
                for parameter, value in zip(policy.trainable, within_bounds, strict=True):
                    parameter.copy_(value)
            return PpoRun(done, number, beta)
        within_bounds = copied(policy.trainable)

        if number == 1 and new_value_head:
            nn.init.constant_(value_head.linear.bias, float(scores.mean()))
        with torch.no_grad():
            old_values = value_head(old.states) * old.mask
        at_tokens = token_rewards(
            torch.from_numpy(scores).float().to(device.device), old.log_probabilities, reference, old.mask, beta
        )
        advantages, returns = generalised_advantages(at_tokens, old_values, old.mask, discount, gae_lambda)
        advantages = whitened(advantages, old.mask)

        policy_losses, value_losses, clip_fractions, update_kls = [], [], [], []
        for _ in range(epochs_per_step):
            order = random.permutation(len(answers))
            for start in range(0, len(order), minibatch_size):
                chosen = order[start : start + minibatch_size]
                now = token_statistics(
                    policy.model, [answers[row] for row in chosen], padding_id, temperature, minibatch_size, device
                )  # fmt: skip
                part = torch.from_numpy(chosen).to(device.device)
                longest = now.mask.shape[1]
                policy_loss = clipped_policy_loss(
                    now.log_probabilities, old.log_probabilities[part, :longest], advantages[part, :longest], now.mask,
                    clip_range,
                )  # fmt: skip
                value_loss = clipped_value_loss(
                    value_head(now.states), old_values[part, :longest], returns[part, :longest], now.mask,
                    value_clip_range,
                )  # fmt: skip
                loss = policy_loss.loss - entropy_bonus * masked_mean(now.entropies, now.mask) + value_loss
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(policy.trainable, max_gradient_norm)
                nn.utils.clip_grad_norm_(value_head.parameters(), max_gradient_norm)
                _require_finite(
                    number, learning_rate, {"loss": float(loss.detach()), "norm of its gradient": float(norm)}
                )
                optimizer.step()
                policy_losses.append(float(policy_loss.loss.detach()))
                value_losses.append(float(value_loss.detach()))
                clip_fractions.append(float(policy_loss.clip_fraction))
                update_kls.append(float(policy_loss.approximate_kl))
        done.append(
            PpoStep(
                step=number,
                reward=float(rewards.mean()),
                reward_sd=float(rewards.std()),
                score=float(scores.mean()),
                kl=kl,
                kl_k3=float((kl_k3(old.log_probabilities, reference) * old.mask).sum(dim=1).mean()),
                entropy=float(masked_mean(old.entropies, old.mask)),
                answer_tokens=float(old.mask.sum(dim=1).float().mean()),
                ended_share=float(ended.mean()),
                beta=beta,
                learning_rate=float(annealing.get_last_lr()[0]),
                policy_loss=float(np.mean(policy_losses)),
                value_loss=float(np.mean(value_losses)),
                clip_fraction=float(np.mean(clip_fractions)),
                update_kl=float(np.mean(update_kls)),
                explained_variance=explained_variance(old_values, returns, old.mask),
            )
        )
        beta = next_beta(beta, kl, target_kl, kl_gain)
        annealing.step()
        now_is = time.monotonic()
        if now_is - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now_is
            seen, left = done[-1], (now_is - started) / number * (steps - number)
            print(
                f"ppo: {number}/{steps} step (reward {seen.reward:.3f}, KL {seen.kl:.2f} nats, {seen.ended_share:.0%} "
                f"of answers end; {left:.0f} s left)",
                file=sys.stderr,
                flush=True,
            )
    return PpoRun(done, 0, beta)


def _require_finite(step: int, learning_rate: float, values: dict[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(
                f"PPO, step {step}: the {name} is {value} at a learning rate of {learning_rate:.3g}; lower "
                "`ppo.learning_rate` or `ppo.clip_range`, or raise `ppo.initial_beta`"
            )
