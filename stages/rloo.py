"""Train a fine-tuned model further by its own answers and the reward model's judgement, by RLOO in TRL's trainer.

RLOO (Kool et al. 2019; Ahmadian et al. 2024) answers each prompt several times and takes the mean reward of the other
answers as the baseline of each: REINFORCE without a value function, the maintained alternative to `ppo` beside it. The
price of a nat of divergence from the reference is fixed (`beta`).

The same gate, the same prompts, the same measurement before and after as in `stages/ppo.py`.

Reads `data/instruct/{train,validation}.parquet`, `models/reward/model/`, `metrics/optional/reward.json` and
`models/sft/<init>/`; writes `models/rloo/`, `metrics/optional/rloo.json`, and every step as plot data.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator
from assay.core.skipped import leave_out, why_left_out
from assay.language_models.checkpoint import end_tokens, save_causal_lm
from assay.reinforcement.held_out import (
    HeldOutScores,
    Prompts,
    compared,
    held_out_scores,
    read_prompts,
    require_reward_accuracy,
    reward_function,
)
from assay.reinforcement.policy import Policy, forget_trl_reference, load_policy, require_finite_losses
from assay.reinforcement.ppo_loop import Score

TRAIN = Path("data/instruct/train.parquet")
HELD_OUT = Path("data/instruct/validation.parquet")
REWARD = Path("models/reward/model")
REWARD_METRICS = Path("metrics/optional/reward.json")
INITS = Path("models/sft")
OUTPUT = Path("models/rloo")
METRICS = Path("metrics/optional/rloo.json")
PLOT = Path("metrics/plots/rloo/steps.csv")
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


class RlooParams(Params):
    """The `rloo` section of `params.yaml`."""

    init: str = Field(min_length=1)
    min_reward_accuracy: float = Field(ge=0, le=1)
    max_steps: int = Field(ge=1, le=10_000_000)
    batch_size: int = Field(ge=2, le=65536)
    answers_per_prompt: int = Field(ge=2, le=1024)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    updates_per_batch: int = Field(ge=1, le=100)
    max_prompt_tokens: int = Field(ge=1, le=131072)
    max_new_tokens: int = Field(ge=1, le=131072)
    temperature: float = Field(gt=0, le=10)
    learning_rate: float = Field(gt=0, le=1)
    warmup_fraction: float = Field(ge=0, le=1)
    max_grad_norm: float = Field(gt=0)
    beta: float = Field(ge=0)
    clip_range: float = Field(gt=0, lt=1)
    normalise_advantages: bool
    missing_eos_penalty: float = Field(ge=0)
    gradient_checkpointing: bool
    held_out_prompts: int = Field(ge=2, le=1_000_000)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)

    @model_validator(mode="after")
    def _whole_groups(self) -> "RlooParams":
        if self.batch_size % self.answers_per_prompt:
            raise ValueError(
                f"`batch_size` {self.batch_size} must be a multiple of `answers_per_prompt` {self.answers_per_prompt}"
            )
        return self


def penalised(score: Score, ends: list[int], missing_eos_penalty: float) -> Callable[..., list[float | None]]:
    """A reward function as TRL calls it: the reward model's, less a penalty for an answer that does not end.

    Args:
        score: of the reward model.
        ends: tokens that end an answer.
        missing_eos_penalty: what is taken.
    """

    def score_of(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **_: Any
    ) -> list[float | None]:
        texts = [str(messages[-1]["content"]).strip() for messages in completions]
        rewards = score(prompts, texts)
        return [
            float(reward) - missing_eos_penalty * (ids[-1] not in ends)
            for reward, ids in zip(rewards, completion_ids, strict=True)
        ]

    # TRL names what it logs after the function.
    score_of.__name__ = "score"
    return score_of


def trained(
    policy: Policy, prompts: Prompts, score: Score, params: RlooParams, device: Device, seed: int
) -> pl.DataFrame:
    """Train a policy in place; returns its steps.

    Args:
        policy: to be trained.
        prompts: to be answered.
        score: of the reward model.
        params: the section.
        device: where and in which precision to run.
        seed: of the order of prompts and of the answers.

    Raises:
        InputError: a loss is not finite.
    """
    # Imported here: they take seconds, and errors of the params come without them.
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    from assay.language_models.trl_trainer import (
        StepLines,
        library_warnings_off,
        step_table,
        trainer_arguments,
        without_own_prints,
    )

    arguments = trainer_arguments(
        SCRATCH, device, seed,
        batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        max_steps=params.max_steps,
        learning_rate=params.learning_rate,
        weight_decay=0.0,
        warmup_fraction=params.warmup_fraction,
        max_grad_norm=params.max_grad_norm,
        gradient_checkpointing=params.gradient_checkpointing,
    )  # fmt: skip
    config = RLOOConfig(
        **arguments,
        num_generations=params.answers_per_prompt,
        num_iterations=params.updates_per_batch,
        max_completion_length=params.max_new_tokens,
        temperature=params.temperature,
        beta=params.beta,
        epsilon=params.clip_range,
        normalize_advantages=params.normalise_advantages,
        disable_dropout=True,
    )
    with library_warnings_off():
        trainer = RLOOTrainer(
            model=policy.model,
            reward_funcs=penalised(score, end_tokens(policy.model, policy.tokenizer), params.missing_eos_penalty),
            args=config,
            train_dataset=Dataset.from_dict({"prompt": prompts.chats}),
            processing_class=policy.tokenizer,
            callbacks=[StepLines("rloo", {"reward": "reward", "kl": "KL a token"})],
        )
        without_own_prints(trainer)
        # TRL puts what is trained on a base in 4 bits into bfloat16, in which small steps vanish.
        for parameter in policy.trainable:
            parameter.data = parameter.data.float()
        trainer.train()
    forget_trl_reference(policy.model)
    steps = step_table(trainer.state.log_history, COLUMNS)
    require_finite_losses(steps, "rloo")
    return steps


def main() -> None:
    """Train the policy."""
    params = load_params("rloo", RlooParams)
    seed = load_params("seed", int)
    init = INITS / params.init
    if reason := why_left_out(init):
        leave_out("rloo", reason, OUTPUT, METRICS, {PLOT: ",".join(["step", *COLUMNS.values()])})
        return
    accuracy = require_reward_accuracy(REWARD_METRICS, params.min_reward_accuracy, "rloo")
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    policy = load_policy(init, device.device)
    prompts = read_prompts(TRAIN, policy.tokenizer, params.max_prompt_tokens, None, seed)
    held_out = read_prompts(HELD_OUT, policy.tokenizer, params.max_prompt_tokens, params.held_out_prompts, seed)
    score = reward_function(REWARD, params.batch_size, device)

    def scores_now() -> HeldOutScores:
        # Seeded as in `ppo`: of the same `batch_size` the answers before are the same.
        return held_out_scores(
            policy, held_out, score, params.max_new_tokens, params.temperature, params.batch_size, device,
            derived_seed(seed, "ppo", "held_out") % 2**32,
        )  # fmt: skip

    before = scores_now()
    started = time.perf_counter()
    steps = trained(policy, prompts, score, params, device, derived_seed(seed, "rloo"))
    seconds = time.perf_counter() - started
    after = scores_now()
    shutil.rmtree(SCRATCH, ignore_errors=True)

    with output_folder(OUTPUT) as folder:
        save_causal_lm(policy.model, policy.tokenizer, folder)
        size = folder_mib(folder)
    write_text(PLOT, steps.write_csv(float_precision=6))
    write_json(
        METRICS,
        {
            "init": params.init,
            "prompts": len(prompts.ids),
            "prompts_too_long": prompts.too_long,
            "reward_model_accuracy": accuracy,
            **compared(before, after, params.bootstrap_samples, generator(seed, "ppo", "bootstrap")),
            "steps": steps.height,
            "train_seconds": seconds,
            "seconds_per_step": seconds / steps.height,
            "peak_memory_mib": peak_memory_mib(device.device),
            "artefact_mib": size,
            "device": str(device.device),
            "precision": str(device.precision).removeprefix("torch."),
        },
    )


if __name__ == "__main__":
    run_stage(main)
