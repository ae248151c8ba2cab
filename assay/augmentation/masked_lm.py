"""Words put in by a masked language model (BAE's replacement; Garg & Ramakrishnan 2020), all texts in batches.

TextAttack's `WordSwapMaskedLM` passes one text with one masked word through the model at a time, padded to 512 tokens,
and sorts the whole vocabulary. Here all words of a text that are to be replaced are masked at once, batches are
length-bucketed, and scores are computed where a word is masked and nowhere else.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from assay.augmentation.recipes import MaskedLm
from assay.augmentation.words import (
    MIN_CHARACTERS,
    Span,
    count_words_to_alter,
    find_plain_words,
    is_plain_word,
    match_case,
    replace_words,
)
from assay.compute.device import Device
from assay.compute.token_batches import sorted_batches, tokenise
from assay.core.progress import progress

MIN_PROBABILITY = 0.01
"""A word that the model finds less likely than this is not put in."""

Likely = list[tuple[str, float]]
"""The likeliest words for a place, with their probabilities."""


def replace_masked_words(
    texts: Sequence[str],
    seeds: Sequence[int],
    recipe: MaskedLm,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    device: Device,
) -> list[str]:
    """One altered copy of each text, a function of the text and its seed, up to rounding of the model's scores.

    Args:
        texts: shape `(n,)`.
        seeds: one for each.
        recipe: one of its `candidates` is drawn by its probability; words after `max_length_tokens` stay.
        model: with a head for masked tokens, in evaluation mode, on the device.
        tokenizer: of the model.
        device: where and in which precision to run.
    """
    draws = [Random(seed) for seed in seeds]
    chosen: list[list[Span]] = []
    for text, of_text in zip(texts, draws, strict=True):
        spans = find_plain_words(text)
        of_text.shuffle(spans)
        chosen.append(sorted(spans[: count_words_to_alter(text, recipe.share_of_words)]))
    found = predict_masked_words(texts, chosen, recipe, model, tokenizer, device)
    altered = []
    for text, spans, of_text, of_spans in zip(texts, chosen, draws, found, strict=True):
        words = {
            span: match_case(text[slice(*span)], drawn)
            for span, likeliest in zip(spans, of_spans, strict=False)
            if (drawn := _drawn(likeliest, text[slice(*span)].lower(), of_text)) is not None
        }
        altered.append(replace_words(text, words))
    return altered


@torch.inference_mode()
def predict_masked_words(
    texts: Sequence[str],
    chosen: Sequence[Sequence[Span]],
    recipe: MaskedLm,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    device: Device,
) -> list[list[Likely]]:
    """For each chosen place of each text that is within the length, the likeliest plain words."""
    words = _whole_words(tokenizer)
    allowed = torch.tensor([bool(word) for word in words], device=device.device)
    mask = str(tokenizer.mask_token)
    masked = [replace_words(text, dict.fromkeys(spans, mask)) for text, spans in zip(texts, chosen, strict=True)]
    rows = tokenise(tokenizer, masked, recipe.max_length_tokens)
    found: list[list[Likely]] = [[] for _ in texts]
    output = model.get_output_embeddings()
    batches = sorted_batches(rows.lengths, recipe.batch_size)
    for batch in progress(batches, "masked words", total=len(batches), unit="batch"):
        ids, attention = (tensor.to(device.device) for tensor in rows.padded(batch))
        places = ids == tokenizer.mask_token_id
        # Scores of the whole vocabulary, for every token, would take longer than all the layers below.
        hook = output.register_forward_pre_hook(lambda _, inputs, places=places: (inputs[0][places],))
        try:
            with device.autocast():
                scores = model(input_ids=ids, attention_mask=attention).logits.float()
        finally:
            hook.remove()
        probabilities = scores.softmax(dim=1)[:, : len(words)]
        top = torch.where(allowed, probabilities, 0.0).topk(min(recipe.candidates + 1, len(words)), dim=1)
        rows_of_places = batch[places.nonzero()[:, 0].cpu().numpy()]
        for row, values, numbers in zip(rows_of_places, top.values.tolist(), top.indices.tolist(), strict=True):
            found[row].append([(words[i], value) for i, value in zip(numbers, values, strict=True)])
    return found


def _drawn(likeliest: list[tuple[str, float]], word: str, draws: Random) -> str | None:
    """One of the likeliest words but the one that stood there, by probability; None where there is none."""
    others = [(other, probability) for other, probability in likeliest if other != word]
    others = [(other, probability) for other, probability in others if probability >= MIN_PROBABILITY]
    if not others:
        return None
    return draws.choices([other for other, _ in others], [probability for _, probability in others])[0]


def _whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The word of each token that is a plain word by itself, in lower case; the empty string for other tokens."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    # Byte-pair vocabularies mark the start of a word (Ġ, ▁); word pieces mark what goes on (##).
    marks = ("Ġ", "▁")
    is_marked = any(token.startswith(marks) for token in tokens)
    words = []
    for token in tokens:
        word = token.lstrip("".join(marks)).lower() if is_marked and token.startswith(marks) else token
        starts_word = token.startswith(marks) if is_marked else not token.startswith("##")
        words.append(word if starts_word and len(word) >= MIN_CHARACTERS and is_plain_word(word) else "")
    return words
