"""Fine-tune a language model on chats, by one approach: `python -m stages.sft <approach>`.

Reads its own block `sft.<approach>` and no other, the base `language_model`, `data/instruct/train.parquet`, and
`validation.parquet` for the loss on held-out answers; writes `models/sft/<approach>/`, loaded by `transformers` and
`peft` alone, metrics, costs, and the loss of each step and of each evaluation; docs/generation.md says how it trains.

A run that is killed resumes from the last checkpoint, in `scratch/` under the hash of all that the model depends on.
Several processes (`compute.processes`) train together: each does its share of every batch, the first one writes. An
approach that this machine does not support (QLoRA, where bitsandbytes has no 4-bit arithmetic) is skipped: the reason
is logged, and written instead of the model and of the metrics.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import polars as pl
import torch

from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, prepare_device
from assay.compute.model_limits import require_positions
from assay.compute.process_group import start_others
from assay.core.errors import run_stage
from assay.core.outputs import discard, file_sha256, folder_sha256, output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.core.skipped import leave_out
from assay.fine_tuning.params import adapted
from assay.fine_tuning.quantization import why_no_4_bit
from assay.fine_tuning.sft_params import Approach, Qlora
from assay.language_models.base_template import TemplateArguments
from assay.language_models.checkpoint import CausalLM, load_base, save_causal_lm
from assay.language_models.sft import fit_metrics, read_chats, train_sft

TRAIN = Path("data/instruct/train.parquet")
VALIDATION = Path("data/instruct/validation.parquet")
OUTPUT = Path("models/sft")
METRICS = Path("metrics/sft")
COSTS = Path("metrics/cost/sft")
PLOTS = Path("metrics/plots/sft_loss")
SCRATCH = Path("scratch/sft")
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
"""Their versions stand beside the metrics."""


def main() -> None:
    """Fine-tune by the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.sft", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a block under `sft` in params.yaml, such as lora")
    approach = parser.parse_args().approach
    seed = load_params("seed", int)
    params: Approach = load_params(f"sft.{approach}", Approach)  # type: ignore[arg-type]
    base_model = load_params("language_model", str)
    arguments = load_params("template_arguments", TemplateArguments)
    compute = load_params("compute", Compute)
    device = prepare_device(compute)
    if isinstance(params, Qlora) and (reason := why_no_4_bit(device.device)):
        plots = {PLOTS / f"{approach}.csv": "step,loss,validation_loss"}
        files = METRICS / f"{approach}.json", plots, COSTS / f"{approach}.json"
        leave_out(f"sft@{approach}", reason, OUTPUT / approach, *files)
        return
    start_others(compute)
    quiet_libraries()
    # Read before training: where a package is missing, no run is lost.
    versions = {name: version(name) for name in PACKAGES}

    # Before the adapters draw their first values.
    own_seed = derived_seed(seed, "sft", approach)
    torch.manual_seed(own_seed)
    quantised = params.double_quantisation if isinstance(params, Qlora) else None
    base, tokenizer = load_base(base_model, device.device, quantised, arguments)
    model: CausalLM = adapted(params, base, "CAUSAL_LM")
    if quantised is None:
        model = model.to(device.device)
    require_positions(model.config, params, f"sft.{approach}")
    train, too_long = read_chats(TRAIN, tokenizer, params.max_length_tokens)
    validation, _ = read_chats(VALIDATION, tokenizer, params.max_length_tokens)
    evaluated = generator(seed, "sft", "validation").permutation(len(validation))[: params.validation_rows]
    depends_on = {
        "train_sha256": file_sha256(TRAIN),
        "validation_sha256": file_sha256(VALIDATION),
        "base_model_sha256": folder_sha256(Path(base_model)),
    }
    key = [approach, params.model_dump_json(), str(own_seed), str(device), str(compute.threads), *depends_on.values()]
    digest = hashlib.sha256("\x1f".join(key).encode()).hexdigest()
    scratch = SCRATCH / f"{approach}-{digest[:16]}"
    held_out = [validation[row] for row in sorted(evaluated)]
    done = train_sft(params, model, tokenizer, train, held_out, device, own_seed, scratch, f"sft@{approach}")
    if int(os.environ.get("RANK", "0")):
        return
    with output_folder(OUTPUT / approach) as folder:
        save_causal_lm(model, tokenizer, folder)
        artefact_mib = folder_mib(folder)
    discard(scratch)

    losses = pl.DataFrame([*done.validation_losses.items()], ["step", "validation_loss"], orient="row")
    curve = losses.join(done.steps, on="step", how="full", coalesce=True).sort("step")
    curve = curve.select("step", "loss", "validation_loss")
    write_text(PLOTS / f"{approach}.csv", curve.write_csv(float_precision=6))
    cost = {
        "train_seconds": done.spent.seconds,
        "train_cpu_seconds": done.spent.cpu_seconds,
        "tokens_per_second": done.tokens / done.step_seconds if done.step_seconds else 0.0,
        "peak_memory_mib": peak_memory_mib(device.device),
        "resumed_at_step": done.resumed_at_step,
    }
    write_json(COSTS / f"{approach}.json", cost)
    measured = {
        "chats_train": len(train),
        "chats_too_long": too_long,
        "chats_validation": len(evaluated),
        "steps": params.max_steps,
        **fit_metrics(done, model),
        "artefact_mib": artefact_mib,
        **device.names(),
        "threads": compute.threads,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": versions,
        **depends_on,
    }
    write_metrics(METRICS / f"{approach}.json", measured, "steps", "validation_loss_before", "validation_loss")


if __name__ == "__main__":
    run_stage(main)
