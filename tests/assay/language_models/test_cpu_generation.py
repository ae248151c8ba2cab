from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from pydantic import TypeAdapter
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.cache_utils import DynamicLayer

from assay.compute.device import Device
from assay.fine_tuning.params import Adapter, adapted
from assay.language_models.chat_template import tokenised_prompts
from assay.language_models.checkpoint import load_base
from assay.language_models.cpu_generation import (
    RoomyLayer,
    adapter_in_weights,
    can_be_added,
    end_tokens,
    generate_tokens,
    packed_weights,
    positions,
    prompt_cache,
    remembered_casts,
    roomy_cache,
)
from tests.assay.language_models.test_checkpoint import APPROACHES, CHATS, CPU, trained

NEW_TOKENS = 10


def model_and_prompts(name: str, folder: Path) -> tuple[Any, Any, Any]:
    base, tokenizer = load_base(str(folder), CPU)
    params: Any = TypeAdapter(Adapter).validate_python(APPROACHES[name])
    torch.manual_seed(0)  # of what adapters start from
    model: Any = adapted(params, base, "CAUSAL_LM")
    trained(model)
    prompts = tokenised_prompts(tokenizer, CHATS)
    return model.eval(), tokenizer, tokenizer.pad({"input_ids": prompts}, return_tensors="pt")


def answers_to_each_alone(model: Any, batch: Any, new_tokens: int, device: Device, **choice: Any) -> list[list[int]]:
    """By transformers, each prompt alone: beside longer ones peft puts a learnt prompt before their padding."""
    answers = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        prompt = ids[mask.bool()][None]
        with torch.no_grad(), device.autocast():
            said = model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens, **choice
            )
        answers.append(said[0, prompt.shape[1] :].tolist())
    return answers


def assert_same_answers(actual: torch.Tensor, expected: list[list[int]], padding_id: int) -> None:
    longest = max(map(len, expected))
    assert actual.tolist() == [[*one, *[padding_id] * (longest - len(one))] for one in expected]


# In bfloat16 a learnt prompt that is read apart from the prompts is rounded otherwise: the test below is for that.
EXACT = [(name, torch.float32) for name in APPROACHES]
EXACT += [(name, torch.bfloat16) for name in APPROACHES if name != "prompt_tuning"]


@pytest.mark.parametrize(("name", "precision"), EXACT)
def test_the_tokens_are_those_of_transformers(name: str, precision: torch.dtype, tiny_chat_model: Path) -> None:
    model, tokenizer, batch = model_and_prompts(name, tiny_chat_model)
    device = Device(CPU, precision)
    choice: dict[str, Any] = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    expected = answers_to_each_alone(model, batch, NEW_TOKENS, device, **choice)
    prompt = batch["input_ids"].shape[1]
    ends = end_tokens(model, tokenizer)
    actual = generate_tokens(model, batch, NEW_TOKENS, device, eos_token_id=ends, **choice)
    assert torch.equal(actual[:, :prompt], batch["input_ids"])
    assert actual.shape[1] > prompt
    assert_same_answers(actual[:, prompt:], expected, tokenizer.pad_token_id)


@pytest.mark.parametrize("name", APPROACHES)
def test_in_bfloat16_each_token_is_the_likeliest_but_for_rounding(name: str, tiny_chat_model: Path) -> None:
    model, tokenizer, batch = model_and_prompts(name, tiny_chat_model)
    device = Device(CPU, torch.bfloat16)
    ends = end_tokens(model, tokenizer)
    actual = generate_tokens(
        model, batch, NEW_TOKENS, device, do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    prompt = batch["input_ids"].shape[1]
    for row, mask in zip(actual, batch["attention_mask"], strict=True):
        is_end = torch.isin(row[prompt:], torch.tensor(ends)).long()
        said = row[prompt:][is_end.cumsum(dim=0) - is_end == 0]  # no end comes before
        asked = torch.cat([row[:prompt][mask.bool()], said])[None]
        with torch.no_grad(), device.autocast():
            # From the end, since a learnt prompt makes rows longer.
            logits = model(input_ids=asked).logits[0, -len(said) - 1 : -1].float()
        missed = logits.max(dim=-1).values - logits.gather(1, said[:, None])[:, 0]
        assert missed.max() <= 0.01 * logits.abs().max()


@pytest.mark.parametrize("name", ["lora", "prompt_tuning", "prefix_tuning"])
def test_answers_that_have_ended_are_left_out_and_the_tokens_stay_the_same(name: str, tiny_chat_model: Path) -> None:
    model, tokenizer, batch = model_and_prompts(name, tiny_chat_model)
    choice: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.3, "pad_token_id": tokenizer.pad_token_id}
    device = Device(CPU, torch.float32)
    unended = answers_to_each_alone(model, batch, 60, device, **choice)
    # A token that one answer has early, another late or never.
    places = {token: [row.index(token) if token in row else 60 for row in unended] for token in range(300)}
    choice["eos_token_id"] = max(places, key=lambda token: max(places[token]) - min(places[token]))
    expected = answers_to_each_alone(model, batch, 60, device, **choice)
    rows: list[int] = []
    inner = model.get_base_model()
    inner.base_model.register_forward_pre_hook(
        lambda _, __, seen: rows.append(len(next(one for one in seen.values() if isinstance(one, torch.Tensor)))),
        with_kwargs=True,
    )
    actual = generate_tokens(model, batch, 60, device, **choice)
    assert_same_answers(actual[:, batch["input_ids"].shape[1] :], expected, tokenizer.pad_token_id)
    # The first pass is over a learnt prompt, which is read once.
    assert min(rows[1:]) < len(batch["input_ids"])


@pytest.mark.parametrize("room", [0, 3, 100])
def test_a_layer_holds_what_transformers_layer_holds(room: int) -> None:
    random = torch.Generator().manual_seed(1)
    roomy: Any = RoomyLayer(room)
    plain: Any = DynamicLayer()  # type: ignore[no-untyped-call]
    changes: dict[int, Callable[[Any], None]] = {
        3: lambda layer: layer.reorder_cache(torch.tensor([1, 1, 0, 2])),
        5: lambda layer: layer.crop(-2),
        7: lambda layer: layer.batch_select_indices(torch.tensor([0, 2])),
        9: lambda layer: layer.reset(),
    }
    rows = 4
    for step, tokens in enumerate([5, 1, 1, 1, 2, 1, 1, 1, 1, 4, 1]):
        if change := changes.get(step):
            change(roomy)
            change(plain)
            rows = 2 if step >= 7 else rows
        keys, values = torch.randn(2, rows, 3, tokens, 8, generator=random)
        for of_ours, of_theirs in zip(roomy.update(keys, values), plain.update(keys, values), strict=True):
            torch.testing.assert_close(of_ours, of_theirs, rtol=0, atol=0)
        assert roomy.get_seq_length() == plain.get_seq_length()


def test_tokens_are_added_in_place_while_there_is_room() -> None:
    layer = RoomyLayer(2)
    places = []
    for tokens in (4, 1, 1, 1):
        keys, _ = layer.update(torch.ones(1, 1, tokens, 2), torch.ones(1, 1, tokens, 2))
        places.append(keys.data_ptr())
    assert places[0] == places[1] == places[2] != places[3]


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the casts of tensors of one shape."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].shape == self.shape:
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_frozen_weight_is_cast_once_for_all_tokens(tiny_chat_model: Path) -> None:
    model, tokenizer, batch = model_and_prompts("lora", tiny_chat_model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    weights = [one.weight.shape for name, one in model.named_modules() if name.endswith("down_proj.base_layer")]
    with Casts(weights[0]) as casts:
        generate_tokens(
            model, batch, NEW_TOKENS, Device(CPU, torch.bfloat16),
            do_sample=False,
            eos_token_id=end_tokens(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    assert casts.count == len(weights)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_what_takes_gradients_is_as_it_was_also_after_an_error(tiny_chat_model: Path) -> None:
    model, _, _ = model_and_prompts("lora", tiny_chat_model)
    before = [parameter.requires_grad for parameter in model.parameters()]

    def fails_inside() -> None:
        with remembered_casts(model):
            assert all(parameter.requires_grad for parameter in model.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fails_inside()
    assert before == [parameter.requires_grad for parameter in model.parameters()]
    assert any(before)
    assert not all(before)


def test_an_adapter_is_in_the_weights_inside_the_block_alone(tiny_chat_model: Path) -> None:
    model, _, batch = model_and_prompts("lora", tiny_chat_model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(**batch).logits
        with adapter_in_weights(model):
            assert not can_be_added(model)
            inside = model(**batch).logits
            with adapter_in_weights(model):
                again = model(**batch).logits
        after = model(**batch).logits
    torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(inside, expected)
    assert torch.equal(again, inside)
    assert torch.equal(after, expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert can_be_added(model)


def test_weights_from_before_are_back_where_an_adapter_cannot_be_added(tiny_chat_model: Path) -> None:
    model, _, _ = model_and_prompts("lora", tiny_chat_model)
    last = [parameter for name, parameter in model.named_parameters() if "lora_B" in name][-1]
    torch.nn.init.constant_(last, float("nan"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="NaN"), adapter_in_weights(model):
        pass
    assert can_be_added(model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_an_adapter_elsewhere_than_on_a_processor_stays_beside_the_weights(tiny_chat_model: Path) -> None:
    model, _, _ = model_and_prompts("lora", tiny_chat_model)
    assert can_be_added(model)
    assert not can_be_added(model.to("meta"))


def test_other_models_are_left_alone(tiny_chat_model: Path) -> None:
    whole, _ = load_base(str(tiny_chat_model), CPU)
    assert not can_be_added(whole)
    prompted = peft.get_peft_model(whole, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    assert not can_be_added(prompted)


def test_weights_that_two_layers_share_are_left_alone(tiny_chat_model: Path) -> None:
    base, _ = load_base(str(tiny_chat_model), CPU)
    base.lm_head.weight = base.get_input_embeddings().weight
    on_both = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "lm_head"])
    assert not can_be_added(peft.get_peft_model(base, on_both))


def test_layers_of_other_kinds_stay(tiny_chat_model: Path) -> None:
    base, _ = load_base(str(tiny_chat_model), CPU)
    assert {type(layer) for layer in roomy_cache(base, 5).layers} == {RoomyLayer}
    base.config.layer_types = ["full_attention", "sliding_attention"]
    base.config.sliding_window = 4
    assert [type(layer).__name__ for layer in roomy_cache(base, 5).layers] == [
        "RoomyLayer",
        "DynamicSlidingWindowLayer",
    ]


def test_packed_weights_say_the_same_and_are_gone_afterwards(tiny_chat_model: Path) -> None:
    model, _, batch = model_and_prompts("lora", tiny_chat_model)
    device = Device(CPU, torch.float32)
    with torch.no_grad():
        expected = model(**batch).logits
        with packed_weights(model, device):
            assert any("forward" in vars(module) for module in model.modules())
            torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-4, atol=1e-5)
    assert not any("forward" in vars(module) for module in model.modules())


def test_weights_are_not_packed_where_pytorch_goes_to_onednn_by_itself(tiny_chat_model: Path) -> None:
    model, _, _ = model_and_prompts("lora", tiny_chat_model)
    with packed_weights(model, Device(CPU, torch.bfloat16)):
        assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", ["lora", "prompt_tuning", "prefix_tuning"])
def test_prompts_that_are_read_a_few_at_a_time_are_in_the_cache_as_read_alone(name: str, tiny_chat_model: Path) -> None:
    model, tokenizer, _ = model_and_prompts(name, tiny_chat_model)
    device = Device(CPU, torch.float32)
    chats = [[{"role": "user", "content": "why? " * (1 + 7 * number % 19)}] for number in range(20)]
    batch = tokenizer.pad({"input_ids": tokenised_prompts(tokenizer, chats)}, return_tensors="pt")
    found = prompt_cache(model, batch, NEW_TOKENS, device)
    assert found is not None
    with torch.no_grad():
        alone = [
            model(input_ids=ids[mask.bool()][None]).logits[0, -1]
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        last = found.model(
            input_ids=found.input_ids[:, -1:],
            attention_mask=found.attention_mask,
            position_ids=positions(found.attention_mask)[:, -1:],
            past_key_values=found.cache,
        ).logits[:, -1]
    torch.testing.assert_close(last, torch.stack(alone), rtol=1e-4, atol=1e-5)
