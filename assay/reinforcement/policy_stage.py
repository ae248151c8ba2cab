"""What the stages `ppo` and `rloo` share: the same start, the same prompts, the same measurement before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from assay.compute.cost import folder_mib, training_cost
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.model_limits import require_positions
from assay.core.outputs import output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator, seed_32
from assay.core.skipped import leave_out, why_left_out
from assay.language_models.checkpoint import save_causal_lm
from assay.reinforcement import held_out
from assay.reinforcement.policy import Policy, load_policy

TRAIN = Path("data/instruct/train.parquet")
HELD_OUT = Path("data/instruct/validation.parquet")
REWARD = Path("models/reward/model")
REWARD_METRICS = Path("metrics/optional/reward.json")
INITS = Path("models/sft")
RESULTS = ("metrics/optional/{}.json", "metrics/cost/{}.json", "metrics/plots/{}/steps.csv")
"""Where metrics, cost and steps of a stage go."""


@dataclass(frozen=True)
class Begun:
    """A policy before its training, the prompts of the train split, and what answers are scored by.

    Held-out answers were sampled and scored `before`; `measure` does it again. `accuracy` is the reward model's.
    """

    section: str
    params: held_out.PolicyParams
    device: Device
    policy: Policy
    prompts: held_out.Prompts
    score: held_out.Score
    accuracy: float
    measure: Callable[[], held_out.HeldOutScores]
    before: held_out.HeldOutScores


def begin(section: str, params: held_out.PolicyParams, columns: Sequence[str], seed: int) -> Begun | None:
    """Load and measure the policy; None: its start was skipped, and so is it. The steps will have these `columns`.

    Raises `InputError`: the reward model, the start or a prompt that is short enough is missing, or rewards are not
    accurate enough.
    """
    init = INITS / params.init
    if reason := why_left_out(init):
        metrics, cost, plot = (Path(file.format(section)) for file in RESULTS)
        leave_out(section, reason, Path("models") / section, metrics, {plot: ",".join(columns)}, cost)
        return None
    accuracy = held_out.require_reward_accuracy(REWARD_METRICS, params.min_reward_accuracy, section)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    policy = load_policy(init, device.device)
    require_positions(policy.model.config, params, section)
    prompts, validation = (
        held_out.read_prompts(path, policy.tokenizer, params.max_prompt_tokens, rows, (seed,))
        for path, rows in ((TRAIN, None), (HELD_OUT, params.held_out_prompts))
    )
    score = held_out.reward_function(REWARD, params.batch_size, device)
    # The same seed for both stages: of the same `batch_size` the answers before are the same.
    own_seed = seed_32(derived_seed(seed, "ppo", "held_out"))
    measure = partial(held_out.measure_held_out, policy, validation, score, params, device, own_seed)
    return Begun(section, params, device, policy, prompts, score, accuracy, measure, measure())


def finish(
    begun: Begun, steps: pl.DataFrame, seconds: float, prompts: dict[str, int], training: dict[str, float], seed: int
) -> None:
    """Measure the trained policy; write it, its `steps`, cost and metrics, `prompts` and `training` among them."""
    after = begun.measure()
    with output_folder(Path("models") / begun.section) as folder:
        save_causal_lm(begun.policy.model, begun.policy.tokenizer, folder)
        size = folder_mib(folder)
    metrics, cost, plot = (Path(file.format(begun.section)) for file in RESULTS)
    write_text(plot, steps.write_csv(float_precision=6))
    write_json(cost, training_cost(seconds, steps.height, begun.device.device))
    random = generator(seed, "ppo", "bootstrap")
    found = {
        "init": begun.params.init,
        **prompts,
        "prompts_too_long": begun.prompts.too_long,
        "reward_model_accuracy": begun.accuracy,
        **held_out.compare_policies(begun.before, after, begun.params.bootstrap_samples, random),
        **training,
        "artefact_mib": size,
        **begun.device.names(),
    }
    write_metrics(metrics, found, "steps", "reward_before", "reward_after", "reward_difference")
