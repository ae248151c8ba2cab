"""Fine-tune a classifier on train rows.

Deviation from the usual recipe: the linear probe computes the frozen encoder's features once, without dropout, and
trains the head on them, scaled (docs/approaches.md, "Linear probe"; as in He et al. 2022, appendix A.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from assay.classifiers.checkpoint import new_classifier, predict_logits, save_classifier, training_logits
from assay.classifiers.fits import Data, Fit, score_validation
from assay.classifiers.training_loop import Checkpoint, Logits, TrainingRows, train
from assay.compute.cost import Spent, peak_memory_mib
from assay.compute.device import Device
from assay.compute.model_limits import require_positions
from assay.compute.token_batches import TokenRows, tokenise
from assay.core.errors import InputError
from assay.fine_tuning.adapters import head_of
from assay.fine_tuning.params import FineTuned, LinearProbe, Qlora, adapted

if TYPE_CHECKING:
    import peft


def balance_classes(targets: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row weights under which every class counts the same in all, with the same sum as before, shape `(rows,)`."""
    of_class = np.bincount(targets, weights=weights)
    present = np.count_nonzero(of_class)
    of_row: NDArray[np.float64] = weights * (weights.sum() / present / of_class[targets])
    return of_row


def encode_frozen(model: PreTrainedModel, rows: TokenRows, batch_size: int, device: Device) -> torch.Tensor:
    """What the frozen encoder hands to the head, which has to be one linear layer; shape `(rows, h)`, on the device."""
    name, head = head_of(model)
    if not isinstance(head, nn.Linear):
        raise InputError(
            f"params.yaml: `method: linear_probe` needs a model with one linear layer as its head; "
            f"{model.config.model_type} has {type(head).__name__}; use `lora` or `full`"
        )
    # Without its head the model answers with the head's input.
    model.set_submodule(name, nn.Identity())
    model.train(False)
    features = predict_logits(model, rows, head.in_features, batch_size, device, "features")
    model.set_submodule(name, head)
    return torch.from_numpy(features).to(device.device)


def measure_scale(features: torch.Tensor, *, centred: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What to subtract from the columns of `(rows, h)` and to divide them by then, shape `(h,)` each.

    Not `centred`, nothing is subtracted: for a head without a bias that could take it back.
    """
    mean = features.mean(dim=0) if centred else torch.zeros_like(features[0])
    deviation = (features - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(deviation > 0, deviation, 1.0)


@torch.no_grad()
def undo_scale(head: nn.Linear, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Change a head for `(x - mean) / deviation` in place into one for `x`."""
    head.weight.div_(deviation)
    if head.bias is not None:
        head.bias.sub_(head.weight @ mean)


@dataclass(frozen=True)
class _Trained:
    """How a model runs in training: `module` holds what is trained, and `finish` is to be called after that."""

    module: nn.Module
    train_logits: Logits
    validation_logits: Callable[[], NDArray[np.float32]]
    accelerator: Accelerator | None
    finish: Callable[[], None]


def _on_frozen_features(
    model: PreTrainedModel, train_rows: TokenRows, validation: TokenRows, batch_size: int, device: Device
) -> _Trained:
    """The head on features that are computed once, in full precision, in each process: it takes a second."""
    exact = Device(device.device, torch.float32)
    features = encode_frozen(model, train_rows, batch_size, exact)
    head = head_of(model)[1]
    assert isinstance(head, nn.Linear)
    mean, deviation = measure_scale(features, centred=head.bias is not None)
    features = (features - mean) / deviation
    validation_features = (encode_frozen(model, validation, batch_size, exact) - mean) / deviation

    def train_logits(rows: NDArray[np.int64]) -> torch.Tensor:
        logits: torch.Tensor = head(features[torch.from_numpy(rows).to(device.device)])
        return logits

    @torch.inference_mode()
    def validation_logits() -> NDArray[np.float32]:
        logits: NDArray[np.float32] = head(validation_features).float().cpu().numpy()
        return logits

    return _Trained(head, train_logits, validation_logits, None, lambda: undo_scale(head, mean, deviation))


def _on_tokens(
    params: FineTuned,
    model: PreTrainedModel | peft.PeftModel,
    train_rows: TokenRows,
    validation: TokenRows,
    classes: int,
    device: Device,
    accelerator: Accelerator | None,
) -> _Trained:
    """The whole model on batches of tokens."""
    if params.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    module: nn.Module = model if accelerator is None else accelerator.prepare_model(model)
    if params.compile:
        torch.use_deterministic_algorithms(True, warn_only=True)  # tells the compiler too
    called: nn.Module = torch.compile(module, dynamic=True) if params.compile else module  # type: ignore[assignment]
    return _Trained(
        module,
        training_logits(called, train_rows, device),
        lambda: predict_logits(called, validation, classes, params.batch_size, device, "validation"),
        accelerator,
        lambda: None,
    )


def fit_seed(
    params: FineTuned,
    data: Data,
    device: Device,
    seed: int,
    folder: Path | None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
) -> Fit:
    """Load the base model, fit the approach on it and save the result in the folder, if there is one."""
    # Before the head and the adapters draw their first values.
    torch.manual_seed(seed)
    quantised = params.double_quantisation if isinstance(params, Qlora) else None
    base, tokenizer = new_classifier(params.model, data.classes, params.pooling, quantised, device.device)
    require_positions(base.config, params, "finetune")
    model = adapted(params, base, "SEQ_CLS")
    if not isinstance(params, Qlora):
        model.to(device.device)  # type: ignore[arg-type]  # a wrapper of transformers hides its signature
    tokens = tokenise(tokenizer, data.train.texts, params.max_length_tokens)
    validation = tokenise(tokenizer, data.validation.texts, params.max_length_tokens)
    began = Spent.now()
    if isinstance(params, LinearProbe) and isinstance(model, PreTrainedModel):
        trained = _on_frozen_features(model, tokens, validation, params.batch_size, device)
    else:
        trained = _on_tokens(params, model, tokens, validation, len(data.classes), device, accelerator)
    targets, weights = data.train.targets, data.train.weights
    weights = balance_classes(targets, weights) if params.class_weights == "balanced" else weights
    history = train(
        trained.module,
        trained.train_logits,
        TrainingRows(targets, tokens.lengths, weights, data.train.ids),
        lambda epoch: score_validation(epoch, trained.validation_logits(), data.validation.targets),
        params,
        np.random.default_rng(seed),
        head=list(head_of(model)[1].parameters()),
        paged=isinstance(params, Qlora),
        checkpoint=checkpoint,
        accelerator=trained.accelerator,
        began=began,
    )
    logits = trained.validation_logits()
    trained.finish()
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trainable, total = sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)
    peak = peak_memory_mib(device.device)
    if folder is not None:
        save_classifier(model, tokenizer, params.max_length_tokens, folder)
    return Fit(history, trainable, total, int(tokens.lengths.sum()), peak, logits)
