"""A sequence classifier on disk: made from a base model, saved, loaded again.

docs/approaches.md, "Saved folders", says what loads what. What transformers alone would load wrongly has a `model_type`
that it does not know, so that it refuses; the configuration that it knows stands there as `classifier`. No folder holds
code or pickles, and none that does is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import CONFIG_NAME

from assay.classifiers.mean_pooled_classifier import MeanPooledForSequenceClassification
from assay.compute.device import Device, keep_freed_memory
from assay.compute.model_limits import require_model, require_safetensors, require_vocabulary
from assay.compute.token_batches import TokenRows, sorted_batches
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_text
from assay.core.progress import progress
from assay.fine_tuning.adapters import load_weights, save_weights
from assay.fine_tuning.params import Pooling
from assay.fine_tuning.quantization import ADAPTER_FILE, QUANTISATION_FILE, four_bit_settings

if TYPE_CHECKING:
    import peft

HEADS = ["classifier", "score"]
"""What transformers calls the head; it stays in full precision."""

REFUSED = "assay_classifier (load it by assay.inference.load)"
"""A `model_type` that no architecture of transformers has; what it says of it is in the error of its loaders."""


def new_classifier(
    base: str,
    labels: list[str],
    pooling: Pooling,
    double_quantisation: bool | None = None,
    device: torch.device | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier with a new head on the base model, and the base's tokenizer.

    Args:
        labels: names of the classes, in the order of the logits.
        pooling: what of the token states the head sees: of an encoder the first (`cls`) or the mean, of a decoder the
            last.
        double_quantisation: weights in 4 bits (NF4; Dettmers et al. 2023), and whether their scales are quantised too;
            None: weights as they are.

    Raises:
        InputError: there is no model in the folder, or none that goes with `pooling`.
    """
    require_model(base)
    config = AutoConfig.from_pretrained(
        base,
        local_files_only=True,
        trust_remote_code=False,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="single_label_classification",
    )
    kind = config.model_type
    is_decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if is_decoder != (pooling == "last"):
        what, fix = ("a decoder", "`last`") if is_decoder else ("an encoder", "`mean` or `cls`")
        raise InputError(f"params.yaml: `pooling` = {pooling!r}, but {base} is {what} ({kind}): write {fix}")
    # The last state of a decoder is then that of the last token, for embeddings too, where no token can be found.
    # Given here, it is saved with the tokenizer; set later, it is not.
    side = {"padding_side": "left"} if is_decoder else {}
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False, **side)
    require_vocabulary(tokenizer, config, base)
    if is_decoder:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise InputError(
                f"{base}: the tokenizer has neither a `pad_token` nor an `eos_token` to pad short rows with; name "
                "one in its tokenizer_config.json"
            )
        config.pad_token_id = tokenizer.pad_token_id
    quantisation = None if double_quantisation is None else four_bit_settings(double_quantisation, device, HEADS)
    return _from_base(base, config, is_mean=pooling == "mean", quantisation=quantisation, device=device), tokenizer


def _from_base(
    base: str, config: PreTrainedConfig, *, is_mean: bool, quantisation: dict[str, Any] | None, device: Any
) -> Any:
    """The classifier on a base model; its head is new."""
    require_model(base)
    require_safetensors(base)
    keep_freed_memory()
    kind: Any = MeanPooledForSequenceClassification if is_mean else AutoModelForSequenceClassification
    return load_weights(kind, base, quantisation, device, config=config)


def save_classifier(
    model: PreTrainedModel | peft.PeftModel, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int, folder: Path
) -> None:
    """Save weights (of an adapter: the adapter and the head), configuration with the labels, and tokenizer."""
    save_weights(model, folder)
    base: Any = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    is_mean = isinstance(base, MeanPooledForSequenceClassification)
    if is_mean or base is not model:
        # An adapter's folder has no configuration yet, and the labels are in it.
        values = base.config.to_diff_dict()
        values.pop("quantization_config", None)
        # A class that is named, such as BertForSequenceClassification, would take a block with its type in it; and
        # without labels here, its head fits no weights.
        values = {"classifier_type": values.pop("model_type"), "classifier": values, "id2label": {}}
        _write_exactly(folder / CONFIG_NAME, {"model_type": REFUSED, "mean_pooling": is_mean, **values})
        if base is not model and is_mean:
            # Else peft would put the adapter on the head that transformers has for the base.
            _write_exactly(folder / ADAPTER_FILE, read_json(folder / ADAPTER_FILE) | {"task_type": REFUSED})
    tokenizer.model_max_length = max_length_tokens
    tokenizer.save_pretrained(folder)


def _write_exactly(path: Path, values: dict[str, Any]) -> None:
    """Write JSON without rounding, as `write_json` would: an epsilon of 1e-12 is no 0."""
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def load_classifier(
    folder: Path, device: torch.device | None = None, *, quantised: bool = True
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase, list[str]]:
    """The classifier of a folder in evaluation mode, its tokenizer, and the labels in the order of the logits.

    A base that was in 4 bits is so again if `quantised`.
    """
    config, is_mean = _saved_config(folder)
    if (folder / ADAPTER_FILE).is_file():
        # Imported here: it takes seconds, and only adapters need it.
        import peft

        require_safetensors(folder)
        saved = read_json(folder / ADAPTER_FILE) | {"task_type": "SEQ_CLS"}
        adapter = peft.PeftConfig.from_peft_type(**saved)  # type: ignore[no-untyped-call]
        file = folder / QUANTISATION_FILE
        quantisation = read_json(file) if quantised and file.is_file() else None
        base = adapter.base_model_name_or_path
        model = _from_base(base, config, is_mean=is_mean, quantisation=quantisation, device=device)
        model = peft.PeftModel.from_pretrained(model, str(folder), config=adapter)
    else:
        quantisation = None
        model = _from_base(str(folder), config, is_mean=is_mean, quantisation=None, device=None)
    if device is not None and quantisation is None:
        model = model.to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True, trust_remote_code=False)
    return model.eval(), tokenizer, [config.id2label[index] for index in range(config.num_labels)]


def _saved_config(folder: Path) -> tuple[Any, bool]:
    """The configuration of a saved classifier, and whether it pools by the mean. Raises `InputError`: it has code."""
    require_model(folder)
    values = read_json(folder / CONFIG_NAME)
    if "auto_map" in values:
        raise InputError(
            f"{folder}/{CONFIG_NAME}: `auto_map` names code of its own, which is not run; if an earlier version of "
            "this project made it, run `dvc repro` to fit it again"
        )
    if values.get("model_type") != REFUSED:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False), False
    return CONFIG_MAPPING[values["classifier_type"]].from_dict(values["classifier"]), values["mean_pooling"]


def training_logits(
    model: torch.nn.Module, rows: TokenRows, device: Device
) -> Callable[[NDArray[np.int64]], torch.Tensor]:
    """From row numbers `(b,)` to logits `(b, k)` in full precision, with gradients."""

    def logits_of(numbers: NDArray[np.int64]) -> torch.Tensor:
        ids, mask = (tensor.to(device.device) for tensor in rows.padded(numbers))
        with device.autocast():
            logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
        return logits.float()

    return logits_of


@torch.inference_mode()
def predict_logits(
    model: torch.nn.Module, rows: TokenRows, classes: int, batch_size: int, device: Device, what: str | None
) -> NDArray[np.float32]:
    """Logits of all rows, in their order, by a model in evaluation mode, shape `(rows, k)`.

    The work is reported by the name `what`; None: it is not.
    """
    logits = np.zeros((len(rows), classes), dtype=np.float32)
    batches = sorted_batches(rows.lengths, batch_size)
    logits_of = training_logits(model, rows, device)
    for batch in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        logits[batch] = logits_of(batch).cpu().numpy()
    return logits
