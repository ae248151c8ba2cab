"""Train a fine-tuned model further on pairs of a better and a worse answer, by DPO (Rafailov et al. 2023), with TRL.

The policy starts as the model of `sft` that `init` names, which is the reference too, and stays of its kind: an adapter
is trained further, a whole model whole. Which pairs are skipped, and what is measured: docs/generation.md.

Reads `data/preferences/{train,held_out}.parquet` and `models/sft/<init>/`; writes `models/dpo/`,
`metrics/optional/dpo.json`, `metrics/cost/dpo.json`, and every step as plot data.
"""

import os
import time
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from assay.compute.cost import folder_mib, training_cost
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.model_limits import require_positions
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.core.skipped import leave_out, why_left_out
from assay.fine_tuning.trainer_params import TrainerParams
from assay.language_models.chat_template import ANSWERING
from assay.language_models.checkpoint import CausalLM, load_causal_lm, save_causal_lm
from assay.preference_data.likelihood import Pairs, sample_pairs, score_pairs, summarise_pairs, tokenise_pairs

TRAIN = Path("data/preferences/train.parquet")
HELD_OUT = Path("data/preferences/held_out.parquet")
INITS = Path("models/sft")
OUTPUT = Path("models/dpo")
METRICS = Path("metrics/optional/dpo.json")
COST = Path("metrics/cost/dpo.json")
PLOT = Path("metrics/plots/dpo/steps.csv")
SCRATCH = Path("scratch/dpo")

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
}
"""From TRL's names of what it logs to those of the plot data."""


LossType = Literal["sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "apo_zero", "apo_down", "sigmoid_norm"]


class DpoParams(TrainerParams):
    """The `dpo` section of `params.yaml`. `loss_type`, `beta` and `label_smoothing` are those of TRL's `DPOConfig`."""

    init: str = Field(min_length=1)
    loss_type: LossType
    beta: float = Field(gt=0)
    label_smoothing: float = Field(ge=0, lt=0.5)
    max_length_tokens: int = Field(ge=2, le=131072)
    held_out_pairs: int = Field(ge=2, le=10_000_000)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def train_dpo(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, pairs: Pairs, params: DpoParams, device: Device, seed: int
) -> pl.DataFrame:
    """Train a model in place; returns its steps. An `InputError` if a loss is not finite."""
    # Imported here: they take seconds, and errors of the params come without them.
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    from assay.language_models.trl_trainer import run_trainer, trainer_arguments

    disable_progress_bars()
    # What TRL's bar over the reference's log-probabilities reads; ours do not read it that late.
    os.environ["TQDM_DISABLE"] = "1"
    config = DPOConfig(
        **trainer_arguments(params, SCRATCH, device, seed),
        loss_type=[params.loss_type],
        beta=params.beta,
        label_smoothing=params.label_smoothing,
        max_length=None,  # longer pairs are skipped, and none is cut
        # Where a pair is seen once there is nothing to gain, and an adapter's reference is at hand in training. Of a
        # whole model it would be a second one in memory.
        precompute_ref_log_probs=not hasattr(model, "peft_config")
        or params.max_steps * params.batch_size > len(pairs.chosen),
    )
    table = pairs.table
    rows = {
        "prompt": table["messages"].to_list(),
        **{side: [[{"role": ANSWERING, "content": said}] for said in table[side]] for side in ("chosen", "rejected")},
    }
    return run_trainer(
        lambda callbacks: DPOTrainer(
            model, args=config, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer, callbacks=callbacks
        ),
        "dpo",
        {"loss": "loss", "rewards/margins": "margin"},
        COLUMNS,
        ", or raise `dpo.beta`",
    )


def main() -> None:
    """Train the policy."""
    params = load_params("dpo", DpoParams)
    seed = load_params("seed", int)
    init = INITS / params.init
    if reason := why_left_out(init):
        leave_out("dpo", reason, OUTPUT, METRICS, {PLOT: ",".join(["step", *COLUMNS.values()])}, COST)
        return
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    model, tokenizer = load_causal_lm(init, device.device, trainable=True)
    require_positions(model.config, params, "dpo")
    # Of more pairs than training sees, the reference need not score any.
    wanted = {TRAIN: params.max_steps * params.batch_size, HELD_OUT: params.held_out_pairs}
    pairs, held_out = (
        sample_pairs(
            tokenise_pairs(pl.read_parquet(path), tokenizer, params.max_length_tokens, path), count, (seed, "dpo")
        )
        for path, count in wanted.items()
    )
    if len(pairs.chosen) < params.batch_size:
        raise InputError(f"{TRAIN}: {len(pairs.chosen)} pairs fit, fewer than `dpo.batch_size` = {params.batch_size}")
    padding_id = int(tokenizer.pad_token_id)
    before = score_pairs(model, held_out, padding_id, params.batch_size, device, "before")
    started = time.perf_counter()
    steps = train_dpo(model, tokenizer, pairs, params, device, derived_seed(seed, "dpo"))
    seconds = time.perf_counter() - started
    after = score_pairs(model.eval(), held_out, padding_id, params.batch_size, device, "after")

    with output_folder(OUTPUT) as folder:
        save_causal_lm(model, tokenizer, folder)
        size = folder_mib(folder)
    write_text(PLOT, steps.write_csv(float_precision=6))
    write_json(COST, training_cost(seconds, steps.height, device.device))
    random = generator(seed, "dpo", "bootstrap")
    metrics = {
        "init": params.init,
        "pairs_train": len(pairs.chosen),
        "pairs_train_too_long": pairs.too_long,
        "pairs_train_with_special_token": pairs.with_special_token,
        "pairs_held_out_too_long": held_out.too_long,
        "pairs_held_out_with_special_token": held_out.with_special_token,
        **summarise_pairs(before, after, params.beta, held_out.table, params.bootstrap_samples, random),
        "train_loss_first": float(steps["loss"][0]),
        "train_loss_last": float(steps["loss"][-1]),
        "steps": steps.height,
        "artefact_mib": size,
        **device.names(),
    }
    write_metrics(METRICS, metrics, "steps", "train_loss_first", "train_loss_last", "accuracy")


if __name__ == "__main__":
    run_stage(main)
