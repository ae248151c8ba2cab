from pathlib import Path

import numpy as np
import pytest
import torch

from assay.compute.device import Device
from assay.label_errors.cross_finetuning import CrossFinetuning, cross_finetune
from assay.probes import grouped_folds


def settings(encoder: Path, epochs: int) -> CrossFinetuning:
    return CrossFinetuning(
        model=str(encoder),
        pooling="mean",
        max_length_tokens=16,
        epochs=epochs,
        batch_size=8,
        learning_rate=0.005,
        weight_decay=0.01,
        warmup_fraction=0.1,
        max_grad_norm=1.0,
        weight=1.0,
    )


def test_wrong_labels_are_learnt_last_and_the_same_seed_gives_the_same(tiny_encoder: Path) -> None:
    torch.set_num_threads(1)
    texts = ["good card" if row % 2 else "awful bank" for row in range(60)]
    labels = np.arange(60) % 2
    labels[:4] = 1 - labels[:4]
    folds = grouped_folds(labels, np.arange(60), 3, seed=1)
    device = Device(torch.device("cpu"), torch.float32)
    tuned = cross_finetune(texts, labels, folds, settings(tiny_encoder, 6), device, (5, "test"))
    assert tuned.probabilities.sum(axis=1) == pytest.approx(np.ones(60))
    assert tuned.area_under_margin[:4].max() < tuned.area_under_margin[4:].min()
    given = tuned.probabilities[np.arange(60), labels]
    assert given[:4].max() < given[4:].min()
    again = cross_finetune(texts, labels, folds, settings(tiny_encoder, 6), device, (5, "test"))
    assert np.array_equal(again.probabilities, tuned.probabilities)


def test_nothing_to_judge(tiny_encoder: Path) -> None:
    device = Device(torch.device("cpu"), torch.float32)
    tuned = cross_finetune(["a", "b"], np.array([0, 1]), [], settings(tiny_encoder, 1), device, (5, "test"))
    assert np.isnan(tuned.probabilities).all()
    assert np.isnan(tuned.area_under_margin).all()
