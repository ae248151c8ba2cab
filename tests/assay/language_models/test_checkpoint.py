import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.fine_tuning.params import Adapter, adapted
from assay.language_models.chat_template import IGNORED, TokenisedChat, add_answers, tokenise_chats, tokenise_prompts
from assay.language_models.checkpoint import (
    Decoding,
    answer_likelihood,
    generate_answers,
    generate_batch,
    label_log_probabilities,
    load_base,
    load_causal_lm,
    pad_chats,
    prompt_batches,
    save_causal_lm,
)
from tests.policy_workspace import move_trainable

CPU = torch.device("cpu")
DEVICE = Device(CPU, torch.float32)
GREEDY = Decoding(max_new_tokens=12, temperature=0.0, top_p=1.0, repetition_penalty=1.0, batch_size=2)
LORA = {"method": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"}
LORA |= {"rank_stabilised": False, "dora": False, "initialisation": "default"}
APPROACHES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": LORA,
    "dora": LORA | {"dora": True},
    "ia3": {"method": "ia3", "target_modules": None, "feedforward_modules": None},
    "prompt_tuning": {"method": "prompt_tuning", "num_virtual_tokens": 3, "initialisation": "words"},
    "prefix_tuning": {"method": "prefix_tuning", "num_virtual_tokens": 3, "projection_width": None},
    "projected_prefix": {"method": "prefix_tuning", "num_virtual_tokens": 3, "projection_width": 16},
}
QUESTIONS = ["Where?", "How much is a permit?", "Until when is the shop open on Sundays?"]
CHATS = [[{"role": "user", "content": question}] for question in QUESTIONS]


def texts_of(model: Any, tokenizer: Any, chats: Any, decoding: Decoding, seed: int = 0) -> list[str]:
    return generate_answers(model, tokenizer, chats, decoding, DEVICE, seed, "test")


def trained(folder: Path, approach: dict[str, Any], double_quantisation: bool | None = None) -> tuple[Any, Any]:
    """A model with all that is trainable moved, as training would, in evaluation mode, and its tokenizer."""
    base, tokenizer = load_base(str(folder), CPU, double_quantisation)
    params: Any = TypeAdapter(Adapter).validate_python(approach)
    model: Any = adapted(params, base, "CAUSAL_LM")
    torch.manual_seed(1)
    move_trainable(model, 0.05)
    return model.eval(), tokenizer


def logits_of(model: Any, tokenizer: Any) -> torch.Tensor:
    """Of three chats with answers of different lengths."""
    chats = tokenise_chats(tokenizer, add_answers(CHATS, ["A", "Bc", "Def"]))
    ids, _, mask = pad_chats(chats, tokenizer.pad_token_id, CPU)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits


@pytest.mark.parametrize("name", APPROACHES)
def test_what_is_loaded_again_says_the_same(name: str, tiny_chat_model: Path, tmp_path: Path) -> None:
    model, tokenizer = trained(tiny_chat_model, APPROACHES[name])
    expected, said = logits_of(model, tokenizer), texts_of(model, tokenizer, CHATS, GREEDY)
    save_causal_lm(model, tokenizer, tmp_path)
    again, again_tokenizer = load_causal_lm(tmp_path, CPU)
    actual = logits_of(again, again_tokenizer)
    # Of a projected prefix peft keeps what came out of the projection, computed for one row instead of a batch.
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-5 if name == "projected_prefix" else 0.0)
    assert said == texts_of(again, again_tokenizer, CHATS, GREEDY)


@pytest.mark.parametrize("name", APPROACHES)
def test_an_answer_is_the_same_with_and_without_the_cache(name: str, tiny_chat_model: Path) -> None:
    model, tokenizer = trained(tiny_chat_model, APPROACHES[name])
    (prompt,) = tokenise_prompts(tokenizer, CHATS[:1])
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(GREEDY.max_new_tokens):
            logits = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
    expected = str(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)).strip()
    assert expected
    assert [expected] == texts_of(model, tokenizer, CHATS[:1], GREEDY)


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_a_layer_that_shares_its_weights_gets_no_adapter(module: str, tiny_chat_model: Path) -> None:
    with pytest.raises(InputError, match=rf"`target_modules` has \S*{module}, whose weights .*take it out"):
        trained(tiny_chat_model, LORA | {"target_modules": ["q_proj", module]})


def test_an_adapter_that_was_loaded_is_saved_in_the_same_bytes(tiny_chat_model: Path, tmp_path: Path) -> None:
    base, tokenizer = load_base(str(tiny_chat_model), CPU)
    params: Any = TypeAdapter(Adapter).validate_python(LORA)
    save_causal_lm(adapted(params, base, "CAUSAL_LM"), tokenizer, tmp_path / "first")
    again, _ = load_causal_lm(tmp_path / "first", CPU, trainable=True)
    again.train()
    save_causal_lm(again, tokenizer, tmp_path / "second")
    one, other = ((tmp_path / name / "adapter_config.json").read_text() for name in ("first", "second"))
    assert one == other
    modules = json.loads(one)["target_modules"]
    assert len(modules) > 4
    assert modules == sorted(modules)


def test_weights_in_four_bits_come_back_with_their_adapter(tiny_chat_model: Path, tmp_path: Path) -> None:
    qlora = {key: value for key, value in LORA.items() if key != "initialisation"}
    qlora |= {"method": "qlora", "double_quantisation": True}
    model, tokenizer = trained(tiny_chat_model, qlora, double_quantisation=True)
    save_causal_lm(model, tokenizer, tmp_path)
    expected = logits_of(model, tokenizer)
    assert torch.equal(logits_of(*load_causal_lm(tmp_path, CPU)), expected)
    assert not torch.equal(logits_of(*load_causal_lm(tmp_path, CPU, quantised=False)), expected)
    written_out = logits_of(*load_causal_lm(tmp_path, CPU, dequantised=True))
    torch.testing.assert_close(written_out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", APPROACHES)
def test_answers_do_not_depend_on_their_batch(name: str, tiny_chat_model: Path) -> None:
    model, tokenizer = trained(tiny_chat_model, APPROACHES[name])
    chats = [*CHATS, *CHATS[:1], [{"role": "user", "content": "whEre?"}]]
    together = texts_of(model, tokenizer, chats, GREEDY.model_copy(update={"batch_size": 5}))
    alone = [texts_of(model, tokenizer, [chat], GREEDY)[0] for chat in chats]
    assert alone == together


def test_prompts_after_a_soft_prompt_share_a_batch_only_with_equally_long_ones(tiny_chat_model: Path) -> None:
    base, _ = load_base(str(tiny_chat_model), CPU)
    prompts = [[5] * length for length in (3, 4, 3, 9, 3, 4)]
    assert [rows.tolist() for rows in prompt_batches(base, prompts, 4)] == [[3, 1, 5, 0], [2, 4]]
    params: Any = TypeAdapter(Adapter).validate_python(APPROACHES["prompt_tuning"])
    model: Any = adapted(params, base, "CAUSAL_LM")
    assert [rows.tolist() for rows in prompt_batches(model, prompts, 4)] == [[3], [1, 5], [0], [2, 4]]


def test_an_answer_ends_at_the_end_token(tiny_chat_model: Path) -> None:
    model, tokenizer = load_causal_lm(tiny_chat_model, CPU)
    prompts = tokenise_prompts(tokenizer, CHATS)
    unended = [ids for ids, _ in generate_batch(model, tokenizer, prompts, GREEDY, DEVICE)]
    # A token that one answer has early, and another late or never.
    places = {token: [ids.index(token) if token in ids else 99 for ids in unended] for ids in unended for token in ids}
    end = max(places, key=lambda token: max(places[token]) - min(places[token]))
    model.generation_config.eos_token_id = [end]
    answers = generate_batch(model, tokenizer, prompts, GREEDY, DEVICE)
    for found, whole, place in zip(answers, unended, places[end], strict=True):
        assert found == ((whole[: place + 1], True) if place < 99 else (whole, whole[-1] == tokenizer.eos_token_id))


def test_sampled_answers_follow_the_seed(tiny_chat_model: Path) -> None:
    model, tokenizer = load_causal_lm(tiny_chat_model, CPU)
    warm = GREEDY.model_copy(update={"temperature": 1.0})
    first, second, other = (texts_of(model, tokenizer, CHATS, warm, seed) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_likelihood_is_the_product_over_the_tokens_of_the_answer(tiny_chat_model: Path) -> None:
    model, tokenizer = load_causal_lm(tiny_chat_model, CPU)
    chats = tokenise_chats(tokenizer, add_answers(CHATS, ["Malmö", "a long answer", "No"]))
    expected = []
    with torch.no_grad():
        for chat in chats:
            log_probabilities = model(input_ids=torch.tensor([chat.input_ids])).logits[0].log_softmax(dim=-1)
            learnt = [(place - 1, label) for place, label in enumerate(chat.labels) if label != IGNORED]
            expected.append(sum(float(log_probabilities[at]) for at in learnt))
    actual = answer_likelihood(model, chats, tokenizer.pad_token_id, 2, DEVICE, None)
    assert expected == pytest.approx(actual.log_probabilities.tolist(), abs=1e-3)
    assert [len("Malmö".encode()) + 1, len("a long answer") + 1, len("No") + 1] == actual.tokens.tolist()


def test_label_log_probabilities_by_hand() -> None:
    # Two tokens to choose from, at odds of 3 to 1 and of 1 to 1.
    logits = torch.tensor([[[math.log(3.0), 0.0], [9.0, 9.0]]])
    labels = torch.tensor([[0, IGNORED]])
    assert label_log_probabilities(logits, labels).tolist() == [[pytest.approx(math.log(0.75)), 0.0]]


def test_padding_stands_on_the_right() -> None:
    chats = [TokenisedChat([7, 8, 9], [IGNORED, 8, 9]), TokenisedChat([5], [IGNORED])]
    ids, labels, mask = pad_chats(chats, 0, CPU)
    assert ids.tolist() == [[7, 8, 9], [5, 0, 0]]
    assert labels.tolist() == [[IGNORED, 8, 9], [IGNORED] * 3]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no model there \(config.json is missing\)"):
        load_base(str(tmp_path / "absent"), CPU)
