"""Train a fine-tuned model further by its own answers and the reward model's scores of them, by RLOO in TRL's trainer.

RLOO (Kool et al. 2019; Ahmadian et al. 2024) answers each prompt several times and takes the mean reward of the other
answers as the baseline of each: REINFORCE without a value function, the maintained alternative to `ppo` beside it. The
KL coefficient (`beta`) is fixed. All else is as in `stages/ppo.py`: `assay/reinforcement/policy_stage.py`.

Reads `data/instruct/{train,validation}.parquet`, `models/reward/model/`, `metrics/optional/reward.json` and
`models/sft/<init>/`; writes `models/rloo/`, `metrics/optional/rloo.json`, `metrics/cost/rloo.json`, and every step as
plot data.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from assay.compute.device import Device
from assay.core.errors import run_stage
from assay.core.params import load_params
from assay.core.seeds import derived_seed
from assay.fine_tuning.trainer_params import TrainerParams
from assay.language_models.chat_template import render_chat
from assay.language_models.checkpoint import end_tokens
from assay.reinforcement import policy_stage
from assay.reinforcement.held_out import PolicyParams, Score
from assay.reinforcement.policy import Policy

SCRATCH = Path("scratch/rloo")

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "rewards/score/mean": "score",
    "rewards/score/std": "score_sd",
    "kl": "kl_per_token",
    "entropy": "entropy",
    "completions/mean_length": "answer_tokens",
    "completions/clipped_ratio": "cut_share",
    "clip_ratio/region_mean": "clip_fraction",
}
"""From TRL's names of what it logs to those of the plot data."""


class RlooParams(TrainerParams, PolicyParams):
    """The `rloo` section of `params.yaml`; a batch is so many answers."""

    batch_size: int = Field(ge=2, le=65536)
    answers_per_prompt: int = Field(ge=2, le=1024)
    updates_per_batch: int = Field(ge=1, le=100)
    beta: float = Field(ge=0)
    clip_range: float = Field(gt=0, lt=1)
    normalise_advantages: bool
    missing_eos_penalty: float = Field(ge=0)

    @model_validator(mode="after")
    def _whole_groups(self) -> "RlooParams":
        if self.batch_size % self.answers_per_prompt:
            raise ValueError(
                f"`batch_size` {self.batch_size} must be a multiple of `answers_per_prompt` {self.answers_per_prompt}"
            )
        return self


def penalise_unended(score: Score, ends: list[int], missing_eos_penalty: float) -> Callable[..., list[float | None]]:
    """A reward function as TRL calls it: `score`, less a penalty for an answer without one of the tokens `ends`."""

    def score_of(prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[Any]:
        rewards = score(prompts, [str(messages[-1]["content"]).strip() for messages in completions])
        cut = np.array([ids[-1] not in ends for ids in completion_ids])
        return list(map(float, rewards - missing_eos_penalty * cut))

    # TRL names what it logs after the function.
    score_of.__name__ = "score"
    return score_of


def train_rloo(
    policy: Policy, chats: list[Any], score: Score, params: RlooParams, device: Device, seed: int
) -> pl.DataFrame:
    """Train a policy in place on chats without answers; returns its steps. An `InputError` if a loss is not finite."""
    # Imported here: they take seconds, and errors of the params come without them.
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    from assay.language_models.trl_trainer import run_trainer, trainer_arguments

    config = RLOOConfig(
        **trainer_arguments(params, SCRATCH, device, seed),
        num_generations=params.answers_per_prompt,
        num_iterations=params.updates_per_batch,
        max_completion_length=params.max_new_tokens,
        temperature=params.temperature,
        beta=params.beta,
        epsilon=params.clip_range,
        normalize_advantages=params.normalise_advantages,
        disable_dropout=True,
    )
    ends = end_tokens(policy.model, policy.tokenizer)
    return run_trainer(
        lambda callbacks: RLOOTrainer(
            model=policy.model,
            reward_funcs=penalise_unended(score, ends, params.missing_eos_penalty),
            args=config,
            train_dataset=Dataset.from_dict({"prompt": chats}),
            processing_class=policy.tokenizer,
            callbacks=callbacks,
        ),
        "rloo",
        {"reward": "reward", "kl": "KL a token"},
        COLUMNS,
        ", or raise `rloo.beta`",
    )


def main() -> None:
    """Train the policy."""
    params = load_params("rloo", RlooParams)
    seed = load_params("seed", int)
    begun = policy_stage.begin("rloo", params, ["step", *COLUMNS.values()], seed)
    if begun is None:
        return
    policy, chats = begun.policy, begun.prompts.chats
    # TRL makes its own tokens of chats, and would read a special token in a text as one.
    read_alike = [chat for chat in chats if not render_chat(policy.tokenizer, chat, answer_follows=True).breaks]
    started = time.perf_counter()
    steps = train_rloo(policy, read_alike, begun.score, params, begun.device, derived_seed(seed, "rloo"))
    seconds = time.perf_counter() - started
    prompts = {"prompts": len(read_alike), "prompts_with_special_token": len(chats) - len(read_alike)}
    policy_stage.finish(begun, steps, seconds, prompts, {"steps": steps.height}, seed)


if __name__ == "__main__":
    run_stage(main)
