from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from trl.trainer import add_fused_lm_head

from assay.language_models.chat_template import IGNORED
from assay.language_models.checkpoint import load_base
from assay.language_models.cpu_lm_head import score_answers_alone

FIELDS = ("log_probs", "entropy", "is_top1", "mean_logits")
ADAPTERS: dict[str, Any] = {
    "none": None,
    "lora": peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False),
    "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}
IDS = torch.arange(24).view(2, 12) + 5
LABELS = IDS.clone()
LABELS[0, :9] = IGNORED
LABELS[1, :4] = IGNORED
LABELS[1, 10:] = IGNORED


@pytest.fixture
def fused(tiny_chat_model: Path) -> Any:
    model: Any
    model, _ = load_base(str(tiny_chat_model), torch.device("cpu"))
    add_fused_lm_head(model, outputs=FIELDS)
    return model.eval()


def with_adapter(model: Any, adapter: str) -> Any:
    torch.manual_seed(3)
    config = ADAPTERS[adapter]
    return model if config is None else peft.get_peft_model(model, config)


def scored(model: Any, labels: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Every field of the output, and the gradients of the loss."""
    model.zero_grad()
    output = model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=labels, fused_lm_head=True)
    (-output.log_probs.sum()).backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
    return {name: value.detach() for name, value in output.items()}, gradients


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_losses_and_gradients_are_those_of_the_whole_head(adapter: str, fused: Any) -> None:
    model = with_adapter(fused, adapter)
    whole, gradients = scored(model, LABELS)
    score_answers_alone(model)
    some, own_gradients = scored(model, LABELS)
    assert some.keys() == whole.keys() >= set(FIELDS)
    for name, value in whole.items():
        torch.testing.assert_close(some[name], value, rtol=1e-4, atol=1e-5)
    assert gradients
    torch.testing.assert_close(own_gradients, gradients, rtol=1e-3, atol=1e-5)


def test_the_head_is_asked_for_no_other_position(fused: Any) -> None:
    forward, asked = fused.forward, []

    def listening(*args: Any, **rest: Any) -> Any:
        asked.append(rest["shift_labels"])
        return forward(*args, **rest)

    fused.forward = listening
    score_answers_alone(fused)
    scored(fused, LABELS)
    assert asked[0].tolist() == [LABELS[:, 1:][LABELS[:, 1:] != IGNORED].tolist()]
    assert not fused.base_model._forward_hooks


def test_a_batch_without_an_answer_counts_nothing(fused: Any) -> None:
    score_answers_alone(fused)
    output, gradients = scored(fused, torch.full_like(IDS, IGNORED))
    assert float(output["log_probs"].abs().sum()) == 0
    assert all(float(gradient.abs().sum()) == 0 for gradient in gradients)


def test_logits_and_generation_are_as_before(fused: Any) -> None:
    with torch.no_grad():
        logits, said = fused(input_ids=IDS).logits, fused.generate(input_ids=IDS, max_new_tokens=4, do_sample=False)
        loss = fused(input_ids=IDS, labels=LABELS).loss
        score_answers_alone(fused)
        assert torch.equal(fused(input_ids=IDS).logits, logits)
        assert torch.equal(fused.generate(input_ids=IDS, max_new_tokens=4, do_sample=False), said)
        assert torch.equal(fused(input_ids=IDS, labels=LABELS).loss, loss)
