"""A sequence classifier on disk: made from a base model, saved, loaded again by `transformers` and `peft` alone.

A model that goes by the mean of its token states brings its own code, `mean_pooled_classifier.py`, beside its weights:

    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)

An adapter's folder has the configuration of the classifier, labels included, and the path of its base model:

    config = AutoConfig.from_pretrained(folder)
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    kind = AutoModelForSequenceClassification  # or, where the folder has mean_pooled_classifier.py:
    kind = get_class_from_dynamic_module("mean_pooled_classifier.MeanPooledForSequenceClassification", folder)
    model = PeftModel.from_pretrained(kind.from_pretrained(base, config=config), folder)

For QLoRA, `from_pretrained` takes `quantization_config=BitsAndBytesConfig(**…)` besides, of `quantisation.json`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.dynamic_module_utils import custom_object_save
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from assay.classifiers.mean_pooled_classifier import MeanPooledForSequenceClassification
from assay.compute.device import Device, keep_freed_memory
from assay.compute.model_limits import require_vocabulary
from assay.compute.token_batches import TokenRows, sorted_batches
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.progress import progress
from assay.fine_tuning.params import Pooling
from assay.fine_tuning.quantization import ADAPTER_FILE, QUANTISATION_FILE, four_bit_settings, in_four_bits

if TYPE_CHECKING:
    import peft

HEADS = ["classifier", "score"]
"""What transformers calls the head; it stays in full precision."""


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
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, **side)
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


def require_model(folder: str) -> None:
    """Raise an `InputError` if there is no model in the folder."""
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{folder}: no model there (config.json is missing); run `dvc repro fetch` or mend the path")


def _from_base(
    base: str, config: PreTrainedConfig, *, is_mean: bool, quantisation: dict[str, Any] | None, device: Any
) -> Any:
    """The classifier on a base model; its head is new."""
    require_model(base)
    keep_freed_memory()
    kind: Any = MeanPooledForSequenceClassification if is_mean else AutoModelForSequenceClassification
    if quantisation is not None:
        return in_four_bits(kind, base, quantisation, device, config=config)
    return kind.from_pretrained(base, config=config, local_files_only=True)


def save_classifier(
    model: PreTrainedModel | peft.PeftModel, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int, folder: Path
) -> None:
    """Save weights (of an adapter: the adapter and the head), configuration with the labels, and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(model, PreTrainedModel):
        # An adapter's folder has no configuration of its own, and the labels are in it.
        base: Any = model.get_base_model()
        config: Any = base.config
        if isinstance(base, MeanPooledForSequenceClassification):
            custom_object_save(base, folder, config=config)
        values = config.to_diff_dict()
        if quantisation := values.pop("quantization_config", None):
            known = four_bit_settings(True, None, HEADS)
            write_json(folder / QUANTISATION_FILE, {name: quantisation[name] for name in known})
        type(config).from_dict(values).save_pretrained(folder)
    # For a prompt, peft checks whether the vocabulary has grown, and queries the hub.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not find a config file")
        model.save_pretrained(str(folder))
    tokenizer.model_max_length = max_length_tokens
    tokenizer.save_pretrained(folder)


def load_classifier(
    folder: Path, device: torch.device | None = None, *, quantised: bool = True
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase, list[str]]:
    """The classifier of a folder in evaluation mode, its tokenizer, and the labels in the order of the logits.

    A base that was in 4 bits is so again if `quantised`.
    """
    # Its own code is ours, so the copy in the folder is not run.
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    is_mean = "mean_pooled_classifier" in str(getattr(config, "auto_map", ""))
    if (folder / ADAPTER_FILE).is_file():
        # Imported here: it takes seconds, and only adapters need it.
        import peft

        base = peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        file = folder / QUANTISATION_FILE
        quantisation = read_json(file) if quantised and file.is_file() else None
        model = _from_base(base, config, is_mean=is_mean, quantisation=quantisation, device=device)
        model = peft.PeftModel.from_pretrained(model, str(folder))
    else:
        quantisation = None
        model = _from_base(str(folder), config, is_mean=is_mean, quantisation=None, device=None)
    if device is not None and quantisation is None:
        model = model.to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model.eval(), tokenizer, [config.id2label[index] for index in range(config.num_labels)]


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
    for batch in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        ids, mask = (tensor.to(device.device) for tensor in rows.padded(batch))
        with device.autocast():
            logits[batch] = model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()
    return logits
