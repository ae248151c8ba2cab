"""Fit one approach on the train rows, once for each seed: a baseline, or a fine-tuned classifier.

`python -m stages.finetune <approach>` reads its own block `finetune.<approach>` and no other, so that changing one
approach runs that one again. What it does is in `assay/classifiers/fit.py`.

Reads `data/augmented/train.parquet` (given labels, and how much each row counts; no reference label is in it) and
`data/split/validation.parquet` (given labels, for early stopping and calibration); writes
`models/finetuned/<approach>/`, the loss per step and the validation scores per epoch. The model of the first seed lies
in that folder itself, with what inference needs (`assay/classifiers/inference_file.py`), those of others in
`seed_<seed>/` there; plots are the first one's. A run that is killed resumes from its last checkpoint, in `scratch/`
under the hash of all that the model depends on. QLoRA may be left out (docs/approaches.md).
"""

from __future__ import annotations

import argparse
import hashlib
import os
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from assay.classifiers.baselines import fit_baseline
from assay.classifiers.fits import Data, Fit, average_seeds, model_seed, read_rows, summarise_cost, summarise_fit
from assay.classifiers.inference_file import write_inference
from assay.classifiers.predict import SEEDS_FILE
from assay.compute.cost import folder_mib, reset_peak_memory
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.process_group import start_others
from assay.core.errors import InputError, run_stage
from assay.core.outputs import discard, file_sha256, folder_sha256, output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed
from assay.core.skipped import leave_out
from assay.fine_tuning.params import Approach, FineTuned, Knn, Prompted, Qlora, WithoutPyTorch
from assay.fine_tuning.quantization import why_no_4_bit

if TYPE_CHECKING:
    from accelerate import Accelerator

TRAIN = Path("data/augmented/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
OUTPUT = Path("models/finetuned")
METRICS = Path("metrics/finetune")
COSTS = Path("metrics/cost/finetune")
PLOTS = Path("metrics/plots")
SCRATCH = Path("scratch/finetune")

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "scikit-learn")
"""Their versions stand beside the metrics."""

CLEANING = ("checks", "rules", "rule_settings", "min_characters", "max_characters", "max_tokens", "languages")
"""Keys of section `clean` that are about one text, and travel with the model."""

HEADERS = {"loss": "step,loss,learning_rate", "validation": "epoch,loss,accuracy,macro_f1"}

WHOLE_MODELS = ("MULTI_CPU", "MULTI_GPU")
"""Ways of several processes in which each of them holds the whole model."""


def connect_processes(device: Device) -> Accelerator | None:
    """What connects processes that train together, if weights are not sharded; None for a process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    # Imported here, as all that imports PyTorch: baselines need none of it.
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device.device.type == "cpu")
    if accelerator.distributed_type.value not in WHOLE_MODELS:
        raise InputError(
            f"{accelerator.distributed_type.value}: sharded weights cannot be saved here; start with "
            "`accelerate launch --multi_gpu` (each process holds the model), and for a model that does not fit take "
            "`qlora`, or set `gradient_checkpointing`"
        )
    return accelerator


def fit_seeds(
    approach: str,
    params: FineTuned,
    data: Data,
    compute: Compute,
    device: Device,
    seed: int,
    accelerator: Accelerator | None,
    folder: Path | None,
    depends_on: dict[str, str],
) -> dict[int, Fit]:
    """One model for each seed; `depends_on` names the files that checkpoints are for."""
    from assay.classifiers.fit import fit_seed
    from assay.classifiers.training_loop import Checkpoint

    key = [params.model_dump_json(), str(device), str(compute.threads), *depends_on.values()]
    fits, scratch = {}, []
    for number, value in enumerate(params.seeds):
        depended_on = "\x1f".join([approach, str(derived_seed(seed, str(value))), *key])
        digest = hashlib.sha256(depended_on.encode()).hexdigest()
        scratch.append(SCRATCH / f"{approach}-{digest[:16]}")
        checkpoint = Checkpoint(scratch[-1] / "checkpoint.pt", compute.checkpoint_seconds)
        own_folder = None if folder is None else folder / f"seed_{value}" if number else folder
        own_seed = derived_seed(model_seed(seed, value), "finetune", approach)
        # Of a process that has fitted before, the system may only tell the peak of the largest fit so far.
        is_own_peak = reset_peak_memory(device.device) or not number
        fit = fit_seed(params, data, device, own_seed, own_folder, checkpoint, accelerator)
        fits[value] = fit if is_own_peak else replace(fit, peak_memory_mib=None)
    if accelerator is not None:
        # The first may still be writing its last checkpoint.
        accelerator.wait_for_everyone()
    for path in scratch:
        discard(path)
    return fits


def write_results(approach: str, data: Data, fits: dict[int, Fit], about: dict[str, Any]) -> None:
    """Write metrics, costs and plots."""
    first = next(iter(fits.values()))
    for plot, rows in (("loss", first.history.steps), ("validation", first.history.epochs)):
        # A frozen model has no steps, but the names of their columns.
        table = pl.DataFrame([asdict(row) for row in rows], schema=HEADERS[plot].split(","))
        write_text(PLOTS / plot / f"{approach}.csv", table.write_csv(float_precision=6))
    per_seed = {str(value): summarise_fit(fit) for value, fit in fits.items()}
    costs = {str(value): summarise_cost(fit, len(data.train.ids)) for value, fit in fits.items()}
    metrics = {
        "rows_train": len(data.train.ids),
        "rows_validation": len(data.validation.ids),
        "trainable_parameters": first.trainable_parameters,
        "total_parameters": first.total_parameters,
        "artefact_mib": folder_mib(OUTPUT / approach) / len(fits),
        **average_seeds(list(per_seed.values())),
        "per_seed": per_seed,
    }
    write_json(COSTS / f"{approach}.json", {**average_seeds(list(costs.values())), "per_seed": costs})
    shown = ("rows_train", "steps", "best_epoch", "validation_macro_f1")
    write_metrics(METRICS / f"{approach}.json", metrics | about, *shown)


def main() -> None:
    """Fit the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.finetune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a block under `finetune` in params.yaml, such as lora")
    approach = parser.parse_args().approach
    seed = load_params("seed", int)
    params: Approach = load_params(f"finetune.{approach}", Approach)  # type: ignore[arg-type]
    compute = load_params("compute", Compute)
    cleaning = {key: load_params(f"clean.{key}", object) for key in CLEANING}
    template = load_params("template_arguments", dict[str, bool | int | float | str])
    device = None if isinstance(params, WithoutPyTorch) else prepare_device(compute)
    if device is not None and isinstance(params, Qlora) and (reason := why_no_4_bit(device.device)):
        plots = {PLOTS / plot / f"{approach}.csv": header for plot, header in HEADERS.items()}
        name = f"{approach}.json"
        leave_out(f"finetune@{approach}", reason, OUTPUT / approach, METRICS / name, plots, COSTS / name)
        return

    accelerator = None
    if device and isinstance(params, FineTuned):
        start_others(compute)
        accelerator = connect_processes(device)
    train_table, validation_table = pl.read_parquet(TRAIN), pl.read_parquet(VALIDATION)
    classes = sorted(train_table["label"].unique())
    data = Data(read_rows(train_table, classes, TRAIN), read_rows(validation_table, classes, VALIDATION), classes)
    depends_on = {"train_sha256": file_sha256(TRAIN), "validation_sha256": file_sha256(VALIDATION)}
    is_first = int(os.environ.get("RANK", "0")) == 0
    with output_folder(OUTPUT / approach) if is_first else nullcontext() as folder:
        if isinstance(params, WithoutPyTorch) or device is None:
            assert isinstance(params, WithoutPyTorch)
            fits = {0: fit_baseline(params, data, folder)}
        else:
            quiet_libraries()
            depends_on["base_model_sha256"] = folder_sha256(Path(params.model))
            if isinstance(params, Knn | Prompted):
                from assay.classifiers.frozen import fit_frozen

                fits = {0: fit_frozen(params, template, data, folder, device)}
            else:
                fits = fit_seeds(approach, params, data, compute, device, seed, accelerator, folder, depends_on)
        if folder is None:
            return
        write_json(folder / SEEDS_FILE, {"seeds": list(fits)})
        first, sources = next(iter(fits.values())), sorted(validation_table["source"].unique())
        write_inference(folder, first.validation_logits, data.validation.targets, cleaning, sources)
    about = {
        **({"device": "cpu", "precision": "float32"} if device is None else device.names()),
        "threads": compute.threads,
        "processes": 1 if accelerator is None else accelerator.num_processes,
        "versions": {name: version(name) for name in PACKAGES},
    }
    write_results(approach, data, fits, about | depends_on)


if __name__ == "__main__":
    run_stage(main)
