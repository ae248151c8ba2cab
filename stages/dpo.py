"""Train a fine-tuned model further on pairs of a better and a worse answer, by DPO (Rafailov et al. 2023), with TRL.

The policy starts as the model of `sft` that `init` names, which is the reference too, and stays of its kind: an adapter
is trained further, a whole model whole. The reference is asked about each pair once. A pair
with a side longer than `max_length_tokens` is left out and counted, never cut: what an answer says may be at its end.

What it learnt is read from held-out pairs: how many of them it ranks rightly by its implicit reward, β log(π / π_ref)
(equation 5), in all and by source, with 95% intervals; and in how many it finds the better answer likelier, token for
token, before and after. Before training every implicit reward is 0, so there is no accuracy to compare with.

Reads `data/preferences/{train,held_out}.parquet` and `models/sft/<init>/`; writes `models/dpo/`,
`metrics/optional/dpo.json`, and every step as plot data.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.core.skipped import leave_out, why_left_out
from assay.language_models.chat_template import ANSWERING, TokenisedChat, tokenised_chats
from assay.language_models.checkpoint import CausalLM, answer_likelihood, load_causal_lm, save_causal_lm
from assay.reinforcement.policy import forget_trl_reference, require_finite_losses
from assay.statistics.bootstrap import Floats, bootstrap_figures

if TYPE_CHECKING:
    from trl import DPOConfig

TRAIN = Path("data/preferences/train.parquet")
HELD_OUT = Path("data/preferences/held_out.parquet")
INITS = Path("models/sft")
OUTPUT = Path("models/dpo")
METRICS = Path("metrics/optional/dpo.json")
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


class DpoParams(Params):
    """The `dpo` section of `params.yaml`. `loss_type`, `beta` and `label_smoothing` are those of TRL's `DPOConfig`."""

    init: str = Field(min_length=1)
    loss_type: Literal[
        "sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "apo_zero", "apo_down", "sigmoid_norm"
    ]
    beta: float = Field(gt=0)
    label_smoothing: float = Field(ge=0, lt=0.5)
    max_steps: int = Field(ge=1, le=10_000_000)
    batch_size: int = Field(ge=1, le=65536)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    learning_rate: float = Field(gt=0, le=1)
    warmup_fraction: float = Field(ge=0, le=1)
    max_grad_norm: float = Field(gt=0)
    max_length_tokens: int = Field(ge=2, le=131072)
    gradient_checkpointing: bool
    held_out_pairs: int = Field(ge=2, le=10_000_000)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


@dataclass(frozen=True)
class Pairs:
    """Pairs of answers to the same chat, shape `(n,)` each.

    Attributes:
        table: the rows, as `preferences` wrote them.
        chosen: the chats with the better answer.
        rejected: with the worse one.
        too_long: how many were left out for their length.
    """

    table: pl.DataFrame
    chosen: list[TokenisedChat]
    rejected: list[TokenisedChat]
    too_long: int


@dataclass(frozen=True)
class Likelihoods:
    """Natural logarithms of the probabilities of both answers of `n` pairs, and their tokens, shape `(n,)` each."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    chosen_tokens: NDArray[np.int64]
    rejected_tokens: NDArray[np.int64]


def pairs_that_fit(
    table: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int, path: Path
) -> Pairs:
    """The pairs of which both sides fit.

    Args:
        table: of the stage `preferences`.
        tokenizer: of the policy.
        max_length_tokens: of a chat with an answer.
        path: of the table, for the message.

    Raises:
        InputError: none does.
    """
    prompts = table["messages"].to_list()
    sides = [
        tokenised_chats(
            tokenizer,
            [[*chat, {"role": ANSWERING, "content": said}] for chat, said in zip(prompts, table[side], strict=True)],
        )
        for side in ("chosen", "rejected")
    ]
    fits = [
        max(len(one.input_ids), len(other.input_ids)) <= max_length_tokens for one, other in zip(*sides, strict=True)
    ]
    if not any(fits):
        raise InputError(
            f"{path}: none of {table.height} pairs fits {max_length_tokens} tokens; raise `dpo.max_length_tokens`"
        )
    chosen, rejected = ([chat for chat, fit in zip(side, fits, strict=True) if fit] for side in sides)
    return Pairs(table.filter(pl.Series(fits)), chosen, rejected, fits.count(False))


def drawn(pairs: Pairs, count: int, seed: int) -> Pairs:
    """At most so many of the pairs, drawn by key: a pair keeps its draw when others are added."""
    draws = keyed_uniform(pairs.table["id"], seed, "dpo").to_numpy()
    rows = np.sort(np.argsort(draws, kind="stable")[:count])
    return Pairs(
        pairs.table[rows], [pairs.chosen[row] for row in rows], [pairs.rejected[row] for row in rows], pairs.too_long
    )


def likelihoods(
    model: CausalLM, pairs: Pairs, padding_id: int, batch_size: int, device: Device, what: str
) -> Likelihoods:
    """How likely a model finds the answers of pairs.

    Args:
        model: in evaluation mode.
        pairs: of answers.
        padding_id: fills short chats up.
        batch_size: answers in a forward pass.
        device: where and in which precision to run.
        what: name of the work, for the progress report.
    """
    found = answer_likelihood(model, [*pairs.chosen, *pairs.rejected], padding_id, batch_size, device, what)
    chosen, rejected = np.split(found.log_probabilities, 2)
    return Likelihoods(chosen, rejected, *np.split(found.tokens, 2))


def pair_metrics(
    before: Likelihoods,
    after: Likelihoods,
    beta: float,
    pair_sources: list[str],
    prompt_ids: list[str],
    samples: int,
    random: np.random.Generator,
) -> dict[str, object]:
    """What the model learnt of held-out pairs, with 95% bootstrap intervals over prompts, as pairs of one go together.

    Args:
        before: under the reference.
        after: under the policy.
        beta: of the implicit reward.
        pair_sources: of each pair, shape `(n,)`.
        prompt_ids: of each pair, shape `(n,)`.
        samples: of the bootstrap.
        random: source of the resampling.
    """
    margins = beta * ((after.chosen - before.chosen) - (after.rejected - before.rejected))
    figures = {
        "accuracy": (margins > 0).astype(np.float64),
        "margin": margins,
        "chosen_reward": beta * (after.chosen - before.chosen),
        "rejected_reward": beta * (after.rejected - before.rejected),
    }
    for name, said in (("before", before), ("after", after)):
        likelier = said.chosen / said.chosen_tokens > said.rejected / said.rejected_tokens
        figures[f"likelihood_accuracy_{name}"] = likelier.astype(np.float64)
    figures["likelihood_accuracy_difference"] = (
        figures["likelihood_accuracy_after"] - figures["likelihood_accuracy_before"]
    )

    def with_intervals(rows: NDArray[np.bool_], names: list[str]) -> dict[str, object]:
        prompts, of_pair = np.unique(np.array(prompt_ids)[rows], return_inverse=True)
        sums = np.stack([np.bincount(of_pair, weights=figures[name][rows]) for name in names])
        sizes = np.bincount(of_pair).astype(np.float64)

        def means(counts: Floats) -> dict[str, Floats]:
            return dict(zip(names, sums @ counts / (sizes @ counts), strict=True))

        out: dict[str, object] = {"pairs": int(rows.sum())}
        for name, estimate in bootstrap_figures(means, len(prompts), samples, random).items():
            out[name] = estimate.value
            if estimate.low is not None and estimate.high is not None:
                out[f"{name}_ci95_low"], out[f"{name}_ci95_high"] = estimate.low, estimate.high
        return out

    sources = np.array(pair_sources)
    return {
        **with_intervals(np.ones(len(sources), dtype=bool), list(figures)),
        "by_source": {
            str(source): with_intervals(sources == source, ["accuracy", "margin"]) for source in np.unique(sources)
        },
    }


def trainer_config(params: DpoParams, device: Device, seed: int, *, precompute_reference: bool) -> DPOConfig:
    """The section as TRL's configuration."""
    from trl import DPOConfig

    from assay.language_models.trl_trainer import trainer_arguments

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
    return DPOConfig(
        **arguments,
        loss_type=[params.loss_type],
        beta=params.beta,
        label_smoothing=params.label_smoothing,
        max_length=None,  # longer pairs are out, and none is cut
        precompute_ref_log_probs=precompute_reference,
    )


def trained(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, pairs: Pairs, params: DpoParams, device: Device, seed: int
) -> pl.DataFrame:
    """Train a model in place; returns its steps.

    Args:
        model: with its trainable parameters.
        tokenizer: of the model.
        pairs: to train on.
        params: the section.
        device: where and in which precision to run.
        seed: of the order of pairs.

    Raises:
        InputError: a loss is not finite.
    """
    # Imported here: they take seconds, and errors of the params come without them.
    from datasets import Dataset, disable_progress_bars
    from trl import DPOTrainer

    from assay.language_models.trl_trainer import (
        StepLines,
        library_warnings_off,
        step_table,
        without_own_prints,
    )

    disable_progress_bars()
    table = pairs.table
    is_adapter = hasattr(model, "peft_config")
    rows = {
        "prompt": table["messages"].to_list(),
        **{side: [[{"role": ANSWERING, "content": said}] for said in table[side]] for side in ("chosen", "rejected")},
    }
    # Where a pair is seen once there is nothing to gain, and an adapter's reference is at hand in training. Of a whole
    # model it would be a second one in memory.
    reference_first = not is_adapter or params.max_steps * params.batch_size > len(pairs.chosen)
    config = trainer_config(params, device, seed, precompute_reference=reference_first)
    # What TRL's bar over the reference's log-probabilities asks; ours do not read it that late.
    os.environ["TQDM_DISABLE"] = "1"
    with library_warnings_off():
        trainer = DPOTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
            callbacks=[StepLines("dpo", {"loss": "loss", "rewards/margins": "margin"})],
        )
        without_own_prints(trainer)
        # TRL puts what is trained on a base in 4 bits into bfloat16, in which small steps vanish.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        trainer.train()
    forget_trl_reference(model)
    steps = step_table(trainer.state.log_history, COLUMNS)
    require_finite_losses(steps, "dpo")
    return steps


def main() -> None:
    """Train the policy."""
    params = load_params("dpo", DpoParams)
    seed = load_params("seed", int)
    init = INITS / params.init
    if reason := why_left_out(init):
        leave_out("dpo", reason, OUTPUT, METRICS, {PLOT: ",".join(["step", *COLUMNS.values()])})
        return
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    model, tokenizer = load_causal_lm(init, device.device, trainable=True)
    # Of more pairs than training sees, the reference need not say anything.
    wanted = {TRAIN: params.max_steps * params.batch_size, HELD_OUT: params.held_out_pairs}
    pairs, held_out = (
        drawn(pairs_that_fit(pl.read_parquet(path), tokenizer, params.max_length_tokens, path), count, seed)
        for path, count in wanted.items()
    )
    if len(pairs.chosen) < params.batch_size:
        raise InputError(f"{TRAIN}: {len(pairs.chosen)} pairs fit, fewer than `dpo.batch_size` = {params.batch_size}")
    padding_id = int(tokenizer.pad_token_id)
    before = likelihoods(model, held_out, padding_id, params.batch_size, device, "before")
    started = time.perf_counter()
    steps = trained(model, tokenizer, pairs, params, device, derived_seed(seed, "dpo"))
    seconds = time.perf_counter() - started
    model.eval()
    after = likelihoods(model, held_out, padding_id, params.batch_size, device, "after")
    shutil.rmtree(SCRATCH, ignore_errors=True)

    with output_folder(OUTPUT) as folder:
        save_causal_lm(model, tokenizer, folder)
        size = folder_mib(folder)
    write_text(PLOT, steps.write_csv(float_precision=6))
    write_json(
        METRICS,
        {
            "init": params.init,
            "pairs_train": len(pairs.chosen),
            "pairs_train_too_long": pairs.too_long,
            "pairs_held_out_too_long": held_out.too_long,
            **pair_metrics(
                before, after, params.beta, held_out.table["pair_source"].to_list(),
                held_out.table["prompt_id"].to_list(), params.bootstrap_samples, generator(seed, "dpo", "bootstrap"),
            ),
            "train_loss_first": float(steps["loss"][0]),
            "train_loss_last": float(steps["loss"][-1]),
            "steps": steps.height,
            "train_seconds": seconds,
            "seconds_per_step": seconds / steps.height,
            "peak_memory_mib": peak_memory_mib(device.device),
            "artefact_mib": size,
            "device": str(device.device),
            "precision": str(device.precision).removeprefix("torch."),
        },
    )  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
