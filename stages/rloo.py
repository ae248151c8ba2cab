"""Train a fine-tuned model further by its own answers and the reward model's scores of them, by RLOO in TRL's trainer.

RLOO (Kool et al. 2019; Ahmadian et al. 2024) answers each prompt several times and takes the mean reward of the other
answers as the baseline of each: REINFORCE without a value function, the maintained alternative to `ppo` beside it. The
KL coefficient (`beta`) is fixed.

The same condition on the reward model, the same prompts, the same measurement before and after as in `stages/ppo.py`.

Reads `data/instruct/{train,validation}.parquet`, `models/reward/model/`, `metrics/optional/reward.json` and
`models/sft/<init>/`; writes `models/rloo/`, `metrics/optional/rloo.json`, `metrics/cost/rloo.json`, and every step as
plot data.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from assay.compute.cost import folder_mib, training_cost
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.model_limits import require_positions
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator, seed_32
from assay.core.skipped import leave_out, why_left_out
from assay.fine_tuning.trainer_params import TrainerParams
from assay.language_models.chat_template import render_chat
from assay.language_models.checkpoint import end_tokens, save_causal_lm
from assay.reinforcement import held_out
from assay.reinforcement.policy import Policy, load_policy
from assay.reinforcement.rollouts import Sampling

TRAIN = Path("data/instruct/train.parquet")
HELD_OUT = Path("data/instruct/validation.parquet")
REWARD = Path("models/reward/model")
REWARD_METRICS = Path("metrics/optional/reward.json")
INITS = Path("models/sft")
OUTPUT = Path("models/rloo")
METRICS = Path("metrics/optional/rloo.json")
COST = Path("metrics/cost/rloo.json")
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


class RlooParams(TrainerParams, Sampling, held_out.PolicyParams):
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


def penalise_unended(
    score: held_out.Score, ends: list[int], missing_eos_penalty: float
) -> Callable[..., list[float | None]]:
    """A reward function as TRL calls it: `score`, less a penalty for an answer without one of the tokens `ends`."""

    def score_of(prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[Any]:
        rewards = score(prompts, [str(messages[-1]["content"]).strip() for messages in completions])
        cut = np.array([ids[-1] not in ends for ids in completion_ids])
        return list(map(float, rewards - missing_eos_penalty * cut))

    # TRL names what it logs after the function.
    score_of.__name__ = "score"
    return score_of


def train_rloo(
    policy: Policy, chats: list[Any], score: held_out.Score, params: RlooParams, device: Device, seed: int
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
    init = INITS / params.init
    if reason := why_left_out(init):
        leave_out("rloo", reason, OUTPUT, METRICS, {PLOT: ",".join(["step", *COLUMNS.values()])}, COST)
        return
    accuracy = held_out.require_reward_accuracy(REWARD_METRICS, params.min_reward_accuracy, "rloo")
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    policy = load_policy(init, device.device)
    require_positions(policy.model.config, params, "rloo")
    prompts = held_out.read_prompts(TRAIN, policy.tokenizer, params.max_prompt_tokens, None, (seed,))
    # TRL makes its own tokens of chats, and would read a special token in a text as one.
    read_alike = [chat for chat in prompts.chats if not render_chat(policy.tokenizer, chat, answer_follows=True).breaks]
    validation = held_out.read_prompts(
        HELD_OUT, policy.tokenizer, params.max_prompt_tokens, params.held_out_prompts, (seed,)
    )
    score = held_out.reward_function(REWARD, params.batch_size, device)
    # Seeded as in `ppo`: of the same `batch_size` the answers before are the same.
    own_seed = seed_32(derived_seed(seed, "ppo", "held_out"))
    measure = partial(held_out.measure_held_out, policy, validation, score, params, device, own_seed)
    before = measure()
    started = time.perf_counter()
    steps = train_rloo(policy, read_alike, score, params, device, derived_seed(seed, "rloo"))
    seconds = time.perf_counter() - started
    after = measure()

    with output_folder(OUTPUT) as folder:
        save_causal_lm(policy.model, policy.tokenizer, folder)
        size = folder_mib(folder)
    write_text(PLOT, steps.write_csv(float_precision=6))
    write_json(COST, training_cost(seconds, steps.height, device.device))
    metrics = {
        "init": params.init,
        "prompts": len(read_alike),
        "prompts_with_special_token": len(prompts.ids) - len(read_alike),
        "prompts_too_long": prompts.too_long,
        "reward_model_accuracy": accuracy,
        **held_out.compare_policies(before, after, params.bootstrap_samples, generator(seed, "ppo", "bootstrap")),
        "steps": steps.height,
        "artefact_mib": size,
        **device.names(),
    }
    write_metrics(METRICS, metrics, "steps", "reward_before", "reward_after", "reward_difference")


if __name__ == "__main__":
    run_stage(main)
