"""Merge an adapter into its base: a plain model, which needs no peft and is as fast as the base.

`make merge APPROACH=lora` writes `models/merged/<approach>/` from the first seed's model in `models/finetuned/`, and
says what merging changed on texts of the test split: the largest difference of a logit, and how many predictions, also
in `merge.json` beside the weights. Where a logit differs by more than `MAX_DIFFERENCE`, nothing is written.

QLoRA is merged into the base in full precision, not into its 4 bits, to which the result would have to be rounded again
(Dettmers et al. 2023), so the merged model is not quite the one that was trained; its bound is `MAX_DIFFERENCE_QLORA`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from assay.classifiers.checkpoint import load_classifier, predict_logits, save_classifier
from assay.classifiers.inference_file import copy_inference
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.token_batches import tokenise
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.skipped import why_left_out
from assay.fine_tuning.quantization import ADAPTER_FILE, QUANTISATION_FILE
from assay.splitting.target_labels import TEST
from assay.statistics.classification import EvaluateParams
from tools.cards.make_cards import read_values, write_cards
from tools.command_line import command_line

MODELS = Path("models/finetuned")
MERGED = Path("models/merged")
MAX_DIFFERENCE = 1e-3
MAX_DIFFERENCE_QLORA = 1.0
"""Of logits in float32. Without the 4 bits they are others: such a difference moves odds by a factor below three."""


def find_model(approach: str) -> Path:
    """The folder of a model. Raises `InputError`: there is none, it is a baseline, or there is no test split."""
    folder = MODELS / approach
    if reason := why_left_out(folder):
        raise InputError(f"{folder}: left out on this machine: {reason}")
    if not (folder / "config.json").is_file():
        there = sorted(path.parent.name for path in MODELS.glob("*/config.json"))
        raise InputError(f"{folder}: no such model of transformers; there are {', '.join(there) or 'none'}")
    if not TEST.is_file():
        raise InputError(f"{TEST}: no such file; run `make repro` first")
    return folder


def merge_adapter(model: Any, folder: Path) -> Any:
    """A model of a folder with its adapter merged into its base; an `InputError` if it is none that can be merged."""
    kind = model.peft_config["default"]
    if kind.is_prompt_learning:
        raise InputError(
            f"{folder}: {kind.peft_type.value.lower()} puts vectors before the text and changes no weights, so "
            "there is nothing to merge; load it with peft, or train `lora`"
        )
    return model.merge_and_unload().eval()


def merged(folder: Path) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The classifier of a folder, its adapter merged into its base in full precision, and the tokenizer."""
    model, tokenizer, _ = load_classifier(folder, quantised=False)
    return merge_adapter(model, folder), tokenizer


def predict_folder(folder: Path, texts: list[str], batch_size: int, device: Device, what: str) -> NDArray[np.float32]:
    """Logits of the model as it lies in the folder, shape `(n, k)`."""
    model, tokenizer, labels = load_classifier(folder, device.device)
    rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
    return predict_logits(model, rows, len(labels), batch_size, device, what)


def main() -> None:
    """Merge the adapter named on the command line."""
    parser = command_line("python -m tools.export.merge", __doc__)
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as lora")
    approach = parser.parse_args().approach
    folder = find_model(approach)
    if not (folder / ADAPTER_FILE).is_file():
        raise InputError(f"{folder} holds no adapter: it is a plain model as it is")
    batch_size = load_params("evaluate", EvaluateParams).batch_size
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    texts = pl.read_parquet(TEST, columns=["text"])["text"].to_list()

    before = predict_folder(folder, texts, batch_size, device, "before")
    plain, tokenizer = merged(folder)
    with output_folder(MERGED / approach) as out:
        save_classifier(plain, tokenizer, int(tokenizer.model_max_length), out)  # type: ignore[arg-type]
        after = predict_folder(out, texts, batch_size, device, "after")
        found: dict[str, Any] = {
            "rows_test": len(texts),
            "largest_logit_difference": float(np.abs(after - before).max()),
            "predictions_changed": int((after.argmax(axis=1) != before.argmax(axis=1)).sum()),
        }
        allowed = MAX_DIFFERENCE_QLORA if (folder / QUANTISATION_FILE).is_file() else MAX_DIFFERENCE
        if not found["largest_logit_difference"] <= allowed:  # a difference that is no number is none to keep
            raise InputError(
                f"{folder}: a logit of the merged model differs by {found['largest_logit_difference']:.2g}, more than "
                f"{allowed:.2g}, and {found['predictions_changed']} predictions; the merged model is not kept"
            )
        write_json(out / "merge.json", found)
        write_cards(read_values(), [approach], "merged", out)
        copy_inference(folder, out)
    print(
        f"{MERGED / approach}: a plain model; largest difference of a logit {found['largest_logit_difference']:.2g}, "
        f"{found['predictions_changed']} of {len(texts):,} predictions changed"
    )


if __name__ == "__main__":
    run_stage(main)
