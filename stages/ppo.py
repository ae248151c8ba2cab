"""Train a fine-tuned model further by its own answers and the reward model's scores of them, by PPO.

When it starts and from what: docs/generation.md. The loop, and where it deviates from the papers, is in
`assay/reinforcement/ppo_loop.py`; what training was worth is measured by `assay/reinforcement/held_out.py`.

Reads `data/instruct/{train,validation}.parquet`, `models/reward/model/`, `metrics/optional/reward.json` and
`models/sft/<init>/`; writes `models/ppo/`, `metrics/optional/ppo.json`,
`metrics/cost/ppo.json`, and every step as plot data.
"""

import sys
import time

import polars as pl

from assay.core.errors import run_stage
from assay.core.params import load_params
from assay.core.progress import library_warnings_off
from assay.core.seeds import generator
from assay.reinforcement import policy_stage
from assay.reinforcement.held_out import PolicyParams
from assay.reinforcement.policy import ValueHead
from assay.reinforcement.ppo_loop import STEP_COLUMNS, PpoTraining, train_ppo


class PpoParams(PpoTraining, PolicyParams):
    """The `ppo` section of `params.yaml`: what the loop takes, and what goes before it and after."""


def main() -> None:
    """Train the policy."""
    params = load_params("ppo", PpoParams)
    seed = load_params("seed", int)
    begun = policy_stage.begin("ppo", params, STEP_COLUMNS, seed)
    if begun is None:
        return
    policy, device = begun.policy, begun.device
    value_head = ValueHead(policy.model.config.get_text_config().hidden_size).to(device.device)
    started = time.perf_counter()
    with library_warnings_off():
        run = train_ppo(policy, value_head, begun.prompts, begun.score, params, device, generator(seed, "ppo"))
    seconds = time.perf_counter() - started
    if run.kl_ran_away_at_step:
        print(
            f"ppo: stopped at step {run.kl_ran_away_at_step} of {params.steps}: its answers were more than "
            f"{params.max_kl} nats from the reference (`ppo.max_kl`), and the step before is kept; lower "
            "`ppo.learning_rate` or raise `ppo.initial_kl_coefficient`",
            file=sys.stderr,
        )
    training = {
        "target_kl": params.target_kl,
        "beta_at_end": run.beta,
        "steps": len(run.steps),
        "kl_ran_away_at_step": run.kl_ran_away_at_step,
    }
    steps = pl.DataFrame(run.steps, schema=list(STEP_COLUMNS))
    policy_stage.finish(begun, steps, seconds, {"prompts": len(begun.prompts.ids)}, training, seed)


if __name__ == "__main__":
    run_stage(main)
