"""A sequence classifier on disk: made from a base model, saved, loaded again by `transformers` and `peft` alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stages.lib.batches import TokenRows, sorted_batches
from stages.lib.device import Device
from stages.lib.errors import InputError
from stages.lib.progress import progress

if TYPE_CHECKING:
    import peft

ADAPTER_FILE = "adapter_config.json"


def new_classifier(base: str, labels: list[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier with a new head on the base model, and the base's tokenizer.

    Args:
        base: folder of the base model.
        labels: names of the classes, in the order of the logits.

    Raises:
        InputError: there is no model in the folder.
    """
    if not (Path(base) / "config.json").is_file():
        raise InputError(f"{base}: no model there (config.json is missing); run `dvc repro fetch` or mend the path")
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        local_files_only=True,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="single_label_classification",
    )
    return model, AutoTokenizer.from_pretrained(base, local_files_only=True)


def save_classifier(
    model: PreTrainedModel | peft.PeftModel, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int, folder: Path
) -> None:
    """Save weights (of an adapter: the adapter and the head), configuration with the labels, and tokenizer."""
    if not isinstance(model, PreTrainedModel):
        # An adapter's folder has no configuration of its own, and the labels are in it.
        model.config.save_pretrained(folder)
    model.save_pretrained(str(folder))
    tokenizer.model_max_length = max_length_tokens
    tokenizer.save_pretrained(folder)


def load_classifier(folder: Path) -> tuple[torch.nn.Module, PreTrainedTokenizerBase, list[str]]:
    """The classifier of a folder in evaluation mode, its tokenizer, and the labels in the order of the logits."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if (folder / ADAPTER_FILE).is_file():
        # Imported here: it takes seconds, and only adapters need it.
        import peft

        base = peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        model = AutoModelForSequenceClassification.from_pretrained(base, config=config, local_files_only=True)
        model = peft.PeftModel.from_pretrained(model, str(folder))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model.eval(), tokenizer, [config.id2label[index] for index in range(config.num_labels)]


@torch.inference_mode()
def predict_logits(
    model: torch.nn.Module, rows: TokenRows, classes: int, batch_size: int, device: Device, what: str
) -> NDArray[np.float32]:
    """Logits of all rows, in their order.

    Args:
        model: a classifier in evaluation mode.
        rows: tokenised texts.
        classes: number of classes, `k`.
        batch_size: texts in a forward pass.
        device: where and in which precision to run.
        what: name of the work, for the progress report.

    Returns:
        Shape `(rows, k)`.
    """
    logits = np.zeros((len(rows), classes), dtype=np.float32)
    batches = sorted_batches(rows.lengths, batch_size)
    for batch in progress(batches, what, total=len(batches), unit="batch"):
        ids, mask = (tensor.to(device.device) for tensor in rows.padded(batch))
        with device.autocast():
            logits[batch] = model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()
    return logits
