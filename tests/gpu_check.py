"""Does the GPU of this machine do what the pipeline needs? `make gpu-check`, ten minutes at most.

Runs the tests marked `gpu`, then some steps of every approach under `finetune` and `sft` in `params.yaml`, in bfloat16
and with the bases that it names, on texts made up here. Ends with a block to paste into an issue or a pull request;
exit status 1 where anything failed. Nothing is written to the tree.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.classifiers.fit import fit_seed
from assay.classifiers.fits import Data, Rows, summarise_cost
from assay.compute.cost import peak_memory_mib, reset_peak_memory
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.fine_tuning import params as finetune_params
from assay.fine_tuning import sft_params
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import tokenise_chats
from assay.language_models.checkpoint import load_base
from assay.language_models.sft import train_sft
from tools.command_line import command_line
from tools.doctor import first_line

MAX_SECONDS = 600
TEST_SECONDS = 400
STEPS = 4
TEXT = "the screen of my phone is broken and the card that you sent arrived a week too late so please help " * 2
"""Of 40 words."""
PACKAGES = ("transformers", "peft", "trl", "bitsandbytes", "accelerate")


def run_classifier(approach: str, device: Device) -> str:
    """Train a classifier for some steps by one approach; returns what that took."""
    params: Any = load_params(f"finetune.{approach}", finetune_params.Approach)  # type: ignore[arg-type]
    count = params.batch_size * STEPS
    targets = np.arange(count) % 2
    labels = [("no", "yes")[target] for target in targets]
    rows = Rows([str(row) for row in range(count)], [TEXT] * count, labels, targets, np.ones(count))
    reset_peak_memory(device.device)
    cost = summarise_cost(
        fit_seed(params.model_copy(update={"max_epochs": 1}), Data(rows, rows, ["no", "yes"]), device, 0, None), count
    )
    return f"{cost['samples_per_second']:,.0f} rows/s, peak {cost['peak_memory_mib']:,.0f} MiB"


def run_sft(approach: str, device: Device) -> str:
    """Train the language model for some steps by one approach; returns what that took."""
    params: Any = load_params(f"sft.{approach}", sft_params.Approach)  # type: ignore[arg-type]
    params = params.model_copy(update={"max_steps": STEPS, "num_evaluations": 1})
    reset_peak_memory(device.device)
    quantised = params.double_quantisation if isinstance(params, sft_params.Qlora) else None
    arguments = load_params("template_arguments", TemplateArguments)
    base, tokenizer = load_base(load_params("language_model", str), device.device, quantised, arguments)
    model: Any = finetune_params.adapted(params, base, "CAUSAL_LM")
    if quantised is None:
        model.to(device.device)
    messages = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}]
    chats = tokenise_chats(tokenizer, [messages] * (16 * params.batch_size))
    with tempfile.TemporaryDirectory() as scratch:
        done = train_sft(
            params, model, tokenizer, chats, chats[:2], device, 0, Path(scratch) / "sft", f"sft@{approach}"
        )
    peak = peak_memory_mib(device.device)
    return f"{done.step_seconds / STEPS:.2f} s/step of {params.batch_size} rows, peak {peak:,.0f} MiB"


def try_approaches(device: Device, deadline: float) -> dict[str, str]:
    """Run every approach until `deadline` (of `time.monotonic`); name → what it took, or `failed: …`."""
    outcomes: dict[str, str] = {}
    sections: dict[str, Callable[[str, Device], str]] = {"finetune": run_classifier, "sft": run_sft}
    for section, run in sections.items():
        for approach, block in load_params(section, dict[str, dict[str, Any]]).items():
            if approach == "defaults" or block["method"] in finetune_params.BASELINES:
                continue
            name = f"{section}@{approach}"
            print(f"gpu-check: {name}", file=sys.stderr, flush=True)
            if time.monotonic() > deadline:
                outcomes[name] = f"failed: not run, {MAX_SECONDS} s are over"
                continue
            try:
                outcomes[name] = run(approach, device)
            except Exception as error:  # whatever it is, it goes into the block, and the others run
                outcomes[name] = f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return outcomes


def run_tests() -> str:
    """Run the tests marked `gpu`; pytest's last line, after `failed: ` and all other output where not all passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--benchmark-skip", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"failed: stopped after {TEST_SECONDS} s"
    last = done.stdout.strip().splitlines()[-1:] or ["no output"]
    if done.returncode:
        print(done.stdout, flush=True)
    return f"failed: {last[0]}" if done.returncode else last[0]


def describe_machine() -> dict[str, str]:
    """Commit, device and versions."""
    seen = torch.cuda.get_device_properties(0)
    driver = first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "commit": first_line("git", "describe", "--always", "--dirty") or "unknown",
        "device": f"{seen.name}, {seen.total_memory / 2**30:.0f} GiB, capability {seen.major}.{seen.minor}",
        "driver": f"{driver}, CUDA {torch.version.cuda}",
        "versions": f"Python {sys.version.split()[0]}, torch {torch.__version__}, {packages}",
    }


def main() -> None:
    """Run the tests and the approaches, and print the block."""
    command_line("python -m tests.gpu_check", __doc__).parse_args()
    if not torch.cuda.is_available():
        raise InputError(
            f"no GPU to check: PyTorch {torch.__version__} sees no CUDA device; `make doctor` says what this machine "
            "has, docs/gpu.md what it needs"
        )
    started = time.monotonic()
    quiet_libraries()
    print("gpu-check: pytest -m gpu", file=sys.stderr, flush=True)
    outcomes = {"tests": run_tests()}
    compute = load_params("compute", Compute).model_copy(update={"device": "cuda", "precision": "bfloat16"})
    outcomes |= try_approaches(prepare_device(compute), started + MAX_SECONDS)
    failed = [name for name, seen in outcomes.items() if seen.startswith("failed")]
    block = describe_machine() | outcomes
    print("\n".join(["", "```", *(f"{name:<22} {seen}" for name, seen in block.items()), "```"]))
    if failed:
        raise InputError(f"gpu-check: {', '.join(failed)} failed; the block above says why")


if __name__ == "__main__":
    run_stage(main)
