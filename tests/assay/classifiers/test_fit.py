from pathlib import Path

import numpy as np
import torch

from assay.classifiers.checkpoint import new_classifier, predict_logits
from assay.classifiers.fit import encode_frozen, measure_scale, undo_scale
from assay.compute.device import Device
from assay.compute.token_batches import tokenise
from assay.fine_tuning import adapters


def test_cached_features_are_what_the_frozen_encoder_gives_the_head(tiny_encoder: Path) -> None:
    model, tokenizer = new_classifier(str(tiny_encoder), ["a", "b", "c"], "mean")
    model = adapters.linear_probe(model)
    device = Device(torch.device("cpu"), torch.float32)
    rows = tokenise(tokenizer, ["good card", "the bank is awful today", "x"], 16)
    features = encode_frozen(model, rows, 2, device)
    name, head = adapters.head_of(model)
    assert name == "classifier"
    with torch.inference_mode():
        logits = head(features).numpy()
    np.testing.assert_allclose(logits, predict_logits(model, rows, 3, 2, device, "test"), atol=1e-6)
    assert [key for key, value in model.named_parameters() if value.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]


def test_a_head_on_standardised_features_becomes_one_on_plain_features() -> None:
    random = torch.Generator().manual_seed(1)
    features = torch.randn(50, 4, generator=random) * torch.tensor([0.1, 1.0, 30.0, 0.0]) + 5
    for bias in (True, False):
        head = torch.nn.Linear(4, 3, bias=bias)
        mean, deviation = measure_scale(features, centred=bias)
        expected = head((features - mean) / deviation)
        undo_scale(head, mean, deviation)
        torch.testing.assert_close(head(features), expected, atol=1e-4, rtol=1e-4)
