"""Train a fine-tuned model further by its own answers and the reward model's scores of them, by PPO.

Nothing starts unless the reward model is right on enough held-out pairs (`min_reward_accuracy`). The policy starts as
the model of `sft` that `init` names, is kept close to it by a KL penalty (Ziegler et al. 2019), and stays of its kind:
an adapter is trained further, a whole model whole. The loop, and where it deviates from the papers, is in
`assay/reinforcement/ppo_loop.py`; what training was worth is measured by `assay/reinforcement/held_out.py`.

Reads `data/instruct/{train,validation}.parquet`, `models/reward/model/`, `metrics/optional/reward.json` and
`models/sft/<init>/`; writes `models/ppo/`, `metrics/optional/ppo.json`,
`metrics/cost/ppo.json`, and every step as plot data.
"""

import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import polars as pl

from assay.compute.cost import folder_mib, training_cost
from assay.compute.device import Compute, prepare_device
from assay.compute.model_limits import require_positions
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import library_warnings_off, quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator, seed_32
from assay.core.skipped import leave_out, why_left_out
from assay.language_models.checkpoint import save_causal_lm
from assay.reinforcement import held_out
from assay.reinforcement.policy import ValueHead, load_policy
from assay.reinforcement.ppo_loop import PpoRun, PpoStep, PpoTraining, train_ppo

TRAIN = Path("data/instruct/train.parquet")
HELD_OUT = Path("data/instruct/validation.parquet")
REWARD = Path("models/reward/model")
REWARD_METRICS = Path("metrics/optional/reward.json")
INITS = Path("models/sft")
OUTPUT = Path("models/ppo")
METRICS = Path("metrics/optional/ppo.json")
COST = Path("metrics/cost/ppo.json")
PLOT = Path("metrics/plots/ppo/steps.csv")


class PpoParams(PpoTraining, held_out.PolicyParams):
    """The `ppo` section of `params.yaml`: what the loop takes, and what goes before it and after."""


def warn_if_stopped(run: PpoRun, params: PpoParams) -> None:
    """Say so where the divergence ended a run."""
    if run.kl_ran_away_at_step:
        print(
            f"ppo: stopped at step {run.kl_ran_away_at_step} of {params.steps}: its answers were more than "
            f"{params.max_kl} nats from the reference (`ppo.max_kl`), and the step before is kept; lower "
            "`ppo.learning_rate` or raise `ppo.initial_kl_coefficient`",
            file=sys.stderr,
        )


def main() -> None:
    """Train the policy."""
    params = load_params("ppo", PpoParams)
    seed = load_params("seed", int)
    init = INITS / params.init
    if reason := why_left_out(init):
        leave_out("ppo", reason, OUTPUT, METRICS, {PLOT: ",".join(PpoStep.__dataclass_fields__)}, COST)
        return
    accuracy = held_out.require_reward_accuracy(REWARD_METRICS, params.min_reward_accuracy, "ppo")
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    policy = load_policy(init, device.device)
    require_positions(policy.model.config, params, "ppo")
    value_head = ValueHead(policy.model.config.get_text_config().hidden_size).to(device.device)
    prompts = held_out.read_prompts(TRAIN, policy.tokenizer, params.max_prompt_tokens, None, (seed,))
    validation = held_out.read_prompts(
        HELD_OUT, policy.tokenizer, params.max_prompt_tokens, params.held_out_prompts, (seed,)
    )
    score = held_out.reward_function(REWARD, params.batch_size, device)
    own_seed = seed_32(derived_seed(seed, "ppo", "held_out"))
    measure = partial(held_out.measure_held_out, policy, validation, score, params, device, own_seed)
    before = measure()
    started = time.perf_counter()
    with library_warnings_off():
        run = train_ppo(policy, value_head, prompts, score, params, device, generator(seed, "ppo"))
    seconds = time.perf_counter() - started
    after = measure()
    warn_if_stopped(run, params)

    with output_folder(OUTPUT) as folder:
        save_causal_lm(policy.model, policy.tokenizer, folder)
        size = folder_mib(folder)
    steps = pl.DataFrame([asdict(step) for step in run.steps], schema=list(PpoStep.__dataclass_fields__))
    write_text(PLOT, steps.write_csv(float_precision=6))
    write_json(COST, training_cost(seconds, len(run.steps), device.device))
    metrics = {
        "init": params.init,
        "prompts": len(prompts.ids),
        "prompts_too_long": prompts.too_long,
        "reward_model_accuracy": accuracy,
        **held_out.compare_policies(before, after, params.bootstrap_samples, generator(seed, "ppo", "bootstrap")),
        "target_kl": params.target_kl,
        "beta_at_end": run.beta,
        "steps": len(run.steps),
        "kl_ran_away_at_step": run.kl_ran_away_at_step,
        "artefact_mib": size,
        **device.names(),
    }
    write_metrics(METRICS, metrics, "steps", "reward_before", "reward_after", "reward_difference")


if __name__ == "__main__":
    run_stage(main)
