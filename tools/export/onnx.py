"""Export a model to ONNX, and check that it says the same.

`make onnx APPROACH=full` writes `models/onnx/<approach>/`: `model.onnx`, which takes token ids and attention mask of
any number of rows and tokens, and the tokenizer and the labels beside it. An adapter is merged into its base first, as
`make merge` does. The exported model is run by ONNX Runtime on texts of the test split: where a logit differs by more
than `MAX_DIFFERENCE`, nothing is written. Needs the extra `onnx`.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from assay.classifiers.checkpoint import load_classifier, predict_logits
from assay.classifiers.inference_file import copy_inference
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.token_batches import sorted_batches, tokenise
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.fine_tuning.quantization import ADAPTER_FILE
from assay.splitting.target_labels import TEST
from tools.cards.make_cards import read_values, write_cards
from tools.command_line import command_line
from tools.export.merge import find_model, merged

EXPORTED = Path("models/onnx")
MAX_DIFFERENCE = 1e-3
CHECKED_ROWS = 500
BATCH_SIZE = 32


class Logits(torch.nn.Module):
    """A classifier as a function of two tensors to one."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits `(b, k)` of token ids and mask, `(b, t)` each."""
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write the model, with free numbers of rows and tokens."""
    example = tokenizer(["two rows", "of which this one is longer"], padding=True, return_tensors="pt")
    rows = torch.export.Dim("rows", min=1, max=65_536)
    tokens = torch.export.Dim("tokens", min=2, max=tokenizer.model_max_length)
    shape = {0: rows, 1: tokens}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        torch.onnx.export(
            Logits(model).eval(),
            (example["input_ids"], example["attention_mask"]),
            path,
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            external_data=False,
            verbose=False,
        )


def onnx_logits(path: Path, tokenizer: PreTrainedTokenizerBase, texts: list[str], classes: int) -> NDArray[np.float32]:
    """What ONNX Runtime computes, shape `(n, k)`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
    logits = np.zeros((len(rows), classes), dtype=np.float32)
    for batch in sorted_batches(rows.lengths, BATCH_SIZE):
        ids, mask = (tensor.numpy() for tensor in rows.padded(batch))
        logits[batch] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return logits


def main() -> None:
    """Export the model named on the command line."""
    parser = command_line("python -m tools.export.onnx", __doc__)
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as full")
    approach = parser.parse_args().approach
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise InputError(f"no package {missing[0]}: `.venv/bin/pip install -e '.[onnx]'`")
    folder = find_model(approach)
    quiet_libraries()
    prepare_device(load_params("compute", Compute))
    device = Device(torch.device("cpu"), torch.float32)
    _, tokenizer, labels = load_classifier(folder, quantised=False)
    model = merged(folder)[0] if (folder / ADAPTER_FILE).is_file() else load_classifier(folder)[0]
    texts = pl.read_parquet(TEST, columns=["text"]).head(CHECKED_ROWS)["text"].to_list()
    with output_folder(EXPORTED / approach) as out:
        export(model, tokenizer, out / "model.onnx")
        tokenizer.save_pretrained(out)
        write_json(out / "labels.json", labels)
        copy_inference(folder, out)
        rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
        expected = predict_logits(model, rows, len(labels), BATCH_SIZE, device, "before")
        difference = float(np.abs(onnx_logits(out / "model.onnx", tokenizer, texts, len(labels)) - expected).max())
        if not difference <= MAX_DIFFERENCE:  # a difference that is no number is none to keep
            raise InputError(
                f"{folder}: ONNX Runtime's logits differ by {difference:.2g} from those of PyTorch, more than "
                f"{MAX_DIFFERENCE:.2g}; the export is not kept"
            )
        write_cards(read_values(), [approach], "onnx", out)
    print(f"{EXPORTED / approach}/model.onnx: logits differ by {difference:.2g} at most on {len(texts):,} test texts")


if __name__ == "__main__":
    run_stage(main)
