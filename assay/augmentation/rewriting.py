"""Texts rewritten by generating models: paraphrases, and translations there and back.

Decoding is greedy, so that a text has one rewriting, whatever else is in its batch, up to rounding.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from assay.augmentation.recipes import BackTranslation, Paraphrase
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.progress import progress

INSTRUCTION = (
    "Rewrite the text in other words. Keep its meaning, its tone, and every name, number and <PLACEHOLDER> as it is."
    " Answer with the rewritten text alone.\n\nText: {text}"
)
NEW_TOKENS_PER_TOKEN, MORE_NEW_TOKENS = 1.5, 16
"""A rewriting may be so much longer than its text; what is longer is cut, and mostly rambling."""

TRIES = 4
BUSY = (429, 500, 502, 503, 504)
"""Statuses after which a request is repeated."""

SECONDS_TO_ANSWER = 60


def rewrite_texts(texts: Sequence[str], recipe: Paraphrase | BackTranslation, device: Device) -> list[str]:
    """The rewriting of each text by a recipe's model or models, shape `(n,)`."""
    if isinstance(recipe, BackTranslation):
        return back_translate(texts, recipe, device)
    return paraphrase_by_endpoint(texts, recipe) if recipe.endpoint else paraphrase_locally(texts, recipe, device)


def rewrite_in_batches(
    texts: Sequence[str], batch_size: int, rewrite: Callable[[list[str]], list[str]], what: str
) -> list[str]:
    """Rewrite texts in length-bucketed batches; a text for which nothing comes back stays as it is."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    out = list(texts)
    for batch in progress(batches, what, total=len(batches), unit="batch"):
        for row, text in zip(batch, rewrite([texts[row] for row in batch]), strict=True):
            out[row] = " ".join(text.split()).strip("\"' ") or texts[row]
    return out


def paraphrase_locally(texts: Sequence[str], recipe: Paraphrase, device: Device) -> list[str]:
    """Paraphrases by a model in a folder, shape `(n,)`; an `InputError` if its tokenizer has no chat template."""
    tokenizer = AutoTokenizer.from_pretrained(recipe.model, local_files_only=True, padding_side="left")
    if tokenizer.chat_template is None:
        raise InputError(
            f"{recipe.model}: its tokenizer has no chat template; `paraphrase` needs an instruction-tuned model"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(recipe.model, local_files_only=True)
    model = model.to(device.device).eval()

    def rewrite(batch: list[str]) -> list[str]:
        chats = [[{"role": "user", "content": INSTRUCTION.format(text=text)}] for text in batch]
        prompts: Any = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        made = _generate(model, tokenizer, prompts, batch, device, answers_follow=True)
        # Such a token in a text would be read as the template's own.
        has_special = (any(token in text for token in tokenizer.all_special_tokens) for text in batch)
        return ["" if special else text for special, text in zip(has_special, made, strict=True)]

    return rewrite_in_batches(texts, recipe.batch_size, rewrite, "paraphrase")


def paraphrase_by_endpoint(texts: Sequence[str], recipe: Paraphrase) -> list[str]:
    """Paraphrases by a server with OpenAI's interface, one request a text, shape `(n,)`.

    The texts leave this machine: mind what is in them. The key of `key_variable` is sent if that is set. No answer, or
    none that can be understood, is an `InputError`.
    """
    key = os.environ.get(recipe.key_variable)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    address = f"{str(recipe.endpoint).rstrip('/')}/chat/completions"

    def rewrite(batch: list[str]) -> list[str]:
        return [_request_paraphrase(address, headers, recipe.model, text) for text in batch]

    return rewrite_in_batches(texts, 1, rewrite, "paraphrase")


def back_translate(texts: Sequence[str], recipe: BackTranslation, device: Device) -> list[str]:
    """Texts translated there by one model and back by another, shape `(n,)` (Sennrich et al. 2016)."""
    for folder, what in ((recipe.forward, "translate"), (recipe.backward, "translate back")):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True)
        model = model.to(device.device).eval()

        def rewrite(batch: list[str], model: Any = model, tokenizer: Any = tokenizer) -> list[str]:
            return _generate(model, tokenizer, batch, batch, device, answers_follow=False)

        texts = rewrite_in_batches(texts, recipe.batch_size, rewrite, what)
    return list(texts)


@torch.inference_mode()
def _generate(
    model: Any, tokenizer: Any, prompts: list[str], texts: list[str], device: Device, *, answers_follow: bool
) -> list[str]:
    """What the model makes of each prompt; nothing of any, where one with its answer has more tokens than it takes."""
    longest = max(len(ids) for ids in tokenizer(texts)["input_ids"])
    new = int(NEW_TOKENS_PER_TOKEN * longest) + MORE_NEW_TOKENS
    encoded = tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=not answers_follow)
    limit = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    width = encoded["input_ids"].shape[1]
    if width + (new if answers_follow else 0) > limit:
        return [""] * len(prompts)
    with device.autocast():
        out = model.generate(
            input_ids=encoded["input_ids"].to(device.device),
            attention_mask=encoded["attention_mask"].to(device.device),
            max_new_tokens=min(new, limit),
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id,
        )
    decoded: list[str] = tokenizer.batch_decode(out[:, width:] if answers_follow else out, skip_special_tokens=True)
    return decoded


def _request_paraphrase(address: str, headers: dict[str, str], model: str, text: str) -> str:
    """The server's rewriting of one text; repeated where it is busy."""
    content = INSTRUCTION.format(text=text)
    body = {"model": model, "temperature": 0, "seed": 0, "messages": [{"role": "user", "content": content}]}
    for number in range(1, TRIES + 1):
        try:
            response = httpx2.post(address, json=body, headers=headers, timeout=SECONDS_TO_ANSWER)
            if response.status_code == 200:
                return str(response.json()["choices"][0]["message"]["content"])
            problem, is_busy = f"status {response.status_code}: {response.text[:200]}", response.status_code in BUSY
        except (httpx2.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
            problem, is_busy = str(error), True
        if not is_busy:
            raise InputError(f"{address}: {problem}; mend `endpoint`, `model` or the key")
        if number < TRIES:
            time.sleep(2**number / 2)
    raise InputError(f"{address}: no answer after {TRIES} tries ({problem}); is the server of `endpoint` running?")
