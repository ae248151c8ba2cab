"""What a model says and how likely it finds the reference, with each prompt read once, against both asked apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from assay.compute.device import Device
from assay.fine_tuning.params import Adapter, adapted
from assay.language_models.chat_template import Message, tokenised_chats
from assay.language_models.checkpoint import Decoding, answer_likelihood, answered, load_base
from assay.language_models.cpu_scoring import answers_and_likelihood
from tests.assay.language_models.test_checkpoint import APPROACHES, CPU, trained

QUESTIONS = [
    "hours?",
    "Can I pay later, and what does it cost me then?",
    "Do you ship to an island?",
    "a b c d e f g h",
]


def said(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


CHATS = [said(f"{question} {number}" * (1 + number % 3), "yes " * (1 + number % 5)) for number in range(6)
         for question in QUESTIONS]  # fmt: skip


def model_of(name: str, folder: Path) -> tuple[Any, Any]:
    base: Any
    base, tokenizer = load_base(str(folder), CPU)
    if name == "base":
        return base.eval(), tokenizer
    params: Any = TypeAdapter(Adapter).validate_python(APPROACHES[name])
    model: Any = adapted(params, base, "CAUSAL_LM")
    trained(model)
    return model.eval(), tokenizer


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("name", ["base", "lora", "prompt_tuning", "prefix_tuning"])
def test_both_are_what_they_are_apart(name: str, temperature: float, tiny_chat_model: Path) -> None:
    model, tokenizer = model_of(name, tiny_chat_model)
    device = Device(CPU, torch.float32)
    decoding = Decoding(max_new_tokens=20, temperature=temperature, top_p=1.0, repetition_penalty=1.0, batch_size=10)
    answers, likelihood = answers_and_likelihood(model, tokenizer, CHATS, decoding, 4, device, 3)
    whole = tokenised_chats(tokenizer, CHATS)
    expected = answer_likelihood(model, whole, tokenizer.pad_token_id, 4, device, None)
    np.testing.assert_allclose(likelihood.log_probabilities, expected.log_probabilities, rtol=1e-5)
    assert likelihood.tokens.tolist() == expected.tokens.tolist()
    assert answers == answered(model, tokenizer, [chat[:-1] for chat in CHATS], decoding, device, 3, "answers")


def test_chats_of_several_answers_are_scored_whole(tiny_chat_model: Path) -> None:
    model, tokenizer = model_of("base", tiny_chat_model)
    device = Device(CPU, torch.float32)
    decoding = Decoding(max_new_tokens=4, temperature=0.0, top_p=1.0, repetition_penalty=1.0, batch_size=10)
    chats = [said("hours?", "nine to five") + said("and on Sunday?", "never"), said("hours?", "nine")]
    _, likelihood = answers_and_likelihood(model, tokenizer, chats, decoding, 4, device, 3)
    expected = answer_likelihood(model, tokenised_chats(tokenizer, chats), tokenizer.pad_token_id, 4, device, None)
    np.testing.assert_allclose(likelihood.log_probabilities, expected.log_probabilities, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["base", "lora", "prompt_tuning", "prefix_tuning"])
def test_both_are_what_they_are_apart_on_cuda(name: str, precision: torch.dtype, tiny_chat_model: Path) -> None:
    model, tokenizer = model_of(name, tiny_chat_model)
    device = Device(torch.device("cuda"), precision)
    model.to(device.device)
    decoding = Decoding(max_new_tokens=20, temperature=0.0, top_p=1.0, repetition_penalty=1.0, batch_size=10)
    answers, likelihood = answers_and_likelihood(model, tokenizer, CHATS, decoding, 4, device, 3)
    whole = tokenised_chats(tokenizer, CHATS)
    expected = answer_likelihood(model, whole, tokenizer.pad_token_id, 4, device, None)
    closeness = 1e-5 if precision == torch.float32 else 2e-2
    np.testing.assert_allclose(likelihood.log_probabilities, expected.log_probabilities, rtol=closeness)
    apart = answered(model, tokenizer, [chat[:-1] for chat in CHATS], decoding, device, 3, "answers")
    assert len(answers) == len(CHATS)
    # In bfloat16 two tokens that are about as likely may change places.
    assert answers == apart or precision == torch.bfloat16
