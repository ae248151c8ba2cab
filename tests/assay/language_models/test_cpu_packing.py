from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assay.language_models.checkpoint import load_base
from assay.language_models.cpu_packing import NAME, attention_within_chats

CPU = torch.device("cpu")
LENGTHS = [7, 1, 12]


def pack() -> dict[str, torch.Tensor]:
    total = sum(LENGTHS)
    ids = torch.arange(total).remainder(40)[None] + 5
    return {"input_ids": ids, "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None]}


def outputs(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    logits = model(**batch, use_cache=False).logits
    logits.float().log_softmax(dim=-1)[..., 3].sum().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_logits_and_gradients_are_those_of_a_mask(tiny_chat_model: Path) -> None:
    model, _ = load_base(str(tiny_chat_model), CPU)
    masked, masked_gradients = outputs(model, pack())
    with attention_within_chats(model):
        assert model.config._attn_implementation == NAME
        within, gradients = outputs(model, pack())
    assert model.config._attn_implementation == "sdpa"
    assert within == pytest.approx(masked, abs=1e-5)
    for one, other in zip(gradients, masked_gradients, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    alone = model(input_ids=pack()["input_ids"][:, -12:]).logits
    assert within[:, -12:] == pytest.approx(alone.detach(), abs=1e-5)


def test_rows_that_are_no_packs_go_through_as_before(tiny_chat_model: Path) -> None:
    model, _ = load_base(str(tiny_chat_model), CPU)
    ids = pack()["input_ids"].reshape(2, -1)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    expected = model(input_ids=ids, attention_mask=mask).logits
    with attention_within_chats(model):
        actual = model(input_ids=ids, attention_mask=mask).logits
    assert actual.detach() == pytest.approx(expected.detach(), abs=1e-6)


def test_a_model_with_windows_keeps_its_attention(tiny_chat_model: Path) -> None:
    model, _ = load_base(str(tiny_chat_model), CPU)
    model.config.sliding_window = 4
    with attention_within_chats(model):
        assert model.config._attn_implementation == "sdpa"
