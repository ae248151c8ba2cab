from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification
from trl.trainer import add_fused_lm_head

from assay.language_models.chat_template import IGNORED
from assay.language_models.checkpoint import load_base
from assay.language_models.cpu_lm_head import score_answers_alone
from assay.language_models.cpu_prefix_sharing import joined_pairs, share_prompts

PAD = 0
SIDES = [
    # Of the second pair one side is the beginning of the other, and the third has the shorter side first.
    ([5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22], [30, 31]),
    ([6, 6, 7, 8, 9, 10], [20, 21], [20, 21, 22, 23]),
    ([7, 6, 5, 8, 9, 10, 11], [25], [26, 27, 28]),
]
ADAPTERS: dict[str, Any] = {
    "none": None,
    "lora": {"r": 4, "target_modules": "all-linear", "init_lora_weights": False},
}


def batch(sides: list[tuple[list[int], list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and labels as TRL's collator lays them."""
    rows = [(prompt, answers[side]) for side in range(2) for prompt, *answers in sides]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, mask, labels = (torch.full((len(rows), longest), fill) for fill in (PAD, 0, IGNORED))
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return ids, mask, labels


def with_adapter(model: Any, adapter: str, task: str) -> Any:
    torch.manual_seed(3)
    arguments = ADAPTERS[adapter]
    return model if arguments is None else peft.get_peft_model(model, peft.LoraConfig(task_type=task, **arguments))


def gradients(model: Any) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]


def rows_seen(model: Any) -> list[torch.Size]:
    """Shapes of the states that the first layer gets, from now on."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    seen: list[torch.Size] = []
    inner.base_model.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    return seen


def test_a_pair_is_one_row_whose_rests_do_not_see_each_other() -> None:
    ids, mask, _ = batch(SIDES[1:])
    joined = joined_pairs(ids, mask)
    assert joined.input_ids.tolist() == [
        [6, 6, 7, 8, 9, 10, 20, 21, 22, 23, 0],
        [7, 6, 5, 8, 9, 10, 11, 25, 26, 27, 28],
    ]
    assert joined.position_ids.tolist()[1] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9]
    sees = joined.attention_mask[1, 0].int().tolist()
    assert sees[7] == [1] * 8 + [0] * 3
    assert sees[9] == [1] * 7 + [0, 1, 1, 0]
    assert joined.attention_mask.any(dim=-1).all()
    # Each side is found again in its pair's row.
    for row, place in enumerate(joined.places):
        length = int(mask[row].sum())
        assert joined.input_ids[row % 2][place][:length].tolist() == ids[row, :length].tolist()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_likelihoods_and_gradients_are_those_of_both_sides_apart(adapter: str, tiny_chat_model: Path) -> None:
    model: Any
    model, _ = load_base(str(tiny_chat_model), torch.device("cpu"))
    add_fused_lm_head(model, outputs=("log_probs",))
    model = with_adapter(model.eval(), adapter, "CAUSAL_LM")
    ids, mask, labels = batch(SIDES)

    def said() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        output = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True, use_cache=False)
        better, worse = output.log_probs.sum(dim=1).chunk(2)
        (worse - better).sum().backward()
        return output.log_probs.detach(), gradients(model)

    apart = said()
    score_answers_alone(model)
    share_prompts(model)
    seen = rows_seen(model)
    torch.testing.assert_close(said(), apart, rtol=1e-3, atol=1e-5)
    assert seen[0][:2] == (3, 13)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_rewards_and_gradients_are_those_of_both_sides_apart(adapter: str, tiny_chat_model: Path) -> None:
    torch.manual_seed(1)
    model: Any = AutoModelForSequenceClassification.from_pretrained(str(tiny_chat_model), num_labels=1)
    model.config.pad_token_id = PAD
    model = with_adapter(model.float().eval(), adapter, "SEQ_CLS")
    ids, mask, _ = batch(SIDES)

    def said() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        rewards = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0]
        better, worse = rewards.chunk(2)
        (worse - better).sum().backward()
        return rewards.detach(), gradients(model)

    apart = said()
    share_prompts(model)
    seen = rows_seen(model)
    torch.testing.assert_close(said(), apart, rtol=1e-3, atol=1e-5)
    assert seen[0][:2] == (3, 13)


@pytest.mark.parametrize("config", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
def test_a_learnt_prompt_or_prefix_goes_before_both_sides(config: Any, tiny_chat_model: Path) -> None:
    model: Any
    model, _ = load_base(str(tiny_chat_model), torch.device("cpu"))
    model = peft.get_peft_model(model.eval(), config(task_type="CAUSAL_LM", num_virtual_tokens=3))
    ids, mask, _ = batch(SIDES)
    apart = model(input_ids=ids, attention_mask=mask).logits
    share_prompts(model)
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, apart)


def test_what_shares_little_and_generation_go_as_before(tiny_chat_model: Path) -> None:
    model: Any
    model, _ = load_base(str(tiny_chat_model), torch.device("cpu"))
    model.eval()
    ids = torch.arange(24).view(2, 12) + 5
    mask = torch.ones_like(ids)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
        said = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
        share_prompts(model)
        seen = rows_seen(model)
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, logits)
        assert torch.equal(model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False), said)
    assert seen[0][:2] == (2, 12)
