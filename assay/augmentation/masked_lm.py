"""Words put in by a masked language model, all texts in batches, as TextAttack's word swap.

TextAttack's `WordSwapMaskedLM` passes one text with one masked word through the model at a time, padded to 512 tokens,
and sorts the whole vocabulary. Here all words of a text that are to be replaced are masked at once, texts of like
length go together, and scores are computed where a word is masked and nowhere else.

Import it after `import_textattack`.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from assay.augmentation.augmenter import DrawnSwap, count_words_to_alter
from assay.augmentation.words import MIN_CHARACTERS, Span, find_plain_words, is_plain_word, match_case, replace_words
from assay.compute.device import Device
from assay.compute.token_batches import sorted_batches, tokenise
from assay.core.progress import progress

MIN_PROBABILITY = 0.01
"""A word that the model finds less likely than this is not put in."""


class MaskedWords(DrawnSwap):
    """Contextual substitution by a masked language model (BAE's replacement; Garg & Ramakrishnan 2020).

    Args:
        model: with a head for masked tokens, in evaluation mode, on the device.
        candidates: of the likeliest words; one is drawn by its probability.
        max_length_tokens: of a text; what comes after is left alone.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        device: Device,
        candidates: int,
        batch_size: int,
        max_length_tokens: int,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.candidates, self.batch_size, self.max_length_tokens = candidates, batch_size, max_length_tokens
        self._words = _whole_words(tokenizer)
        self._allowed = torch.zeros(len(self._words), dtype=torch.bool, device=device.device)
        self._allowed[[i for i, word in enumerate(self._words) if word]] = True

    def copies(self, texts: Sequence[str], seeds: Sequence[int], share_of_words: float) -> list[str]:
        """One altered copy of each text, a function of the text and its seed, up to rounding of the model's scores.

        Args:
            texts: shape `(n,)`.
            seeds: one for each.
            share_of_words: of the words of a text that are altered; at least one.
        """
        draws = [Random(seed) for seed in seeds]
        chosen: list[list[Span]] = []
        for text, of_text in zip(texts, draws, strict=True):
            spans = find_plain_words(text)
            of_text.shuffle(spans)
            chosen.append(sorted(spans[: count_words_to_alter(text, share_of_words)]))
        found = self._likeliest(texts, chosen)
        copies = []
        for text, spans, of_text, of_spans in zip(texts, chosen, draws, found, strict=True):
            words = {
                span: match_case(text[slice(*span)], drawn)
                for span, likeliest in zip(spans, of_spans, strict=False)
                if (drawn := _drawn(likeliest, text[slice(*span)].lower(), of_text)) is not None
            }
            copies.append(replace_words(text, words))
        return copies

    @torch.inference_mode()
    def _likeliest(self, texts: Sequence[str], chosen: Sequence[Sequence[Span]]) -> list[list[list[tuple[str, float]]]]:
        """For each masked place that is within the length, the likeliest words with their probabilities."""
        mask = str(self.tokenizer.mask_token)
        masked = [replace_words(text, dict.fromkeys(spans, mask)) for text, spans in zip(texts, chosen, strict=True)]
        rows = tokenise(self.tokenizer, masked, self.max_length_tokens)
        found: list[list[list[tuple[str, float]]]] = [[] for _ in texts]
        output = self.model.get_output_embeddings()
        batches = sorted_batches(rows.lengths, self.batch_size)
        for batch in progress(batches, "masked words", total=len(batches), unit="batch"):
            ids, attention = (tensor.to(self.device.device) for tensor in rows.padded(batch))
            places = ids == self.tokenizer.mask_token_id
            # Scores of the whole vocabulary, for every token, would take longer than all the layers below.
            hook = output.register_forward_pre_hook(lambda _, inputs, places=places: (inputs[0][places],))
            try:
                with self.device.autocast():
                    scores = self.model(input_ids=ids, attention_mask=attention).logits.float()
            finally:
                hook.remove()
            probabilities = scores.softmax(dim=1)[:, : len(self._words)]
            top = torch.where(self._allowed, probabilities, 0.0).topk(min(self.candidates + 1, len(self._words)), dim=1)
            rows_of_places = batch[places.nonzero()[:, 0].cpu().numpy()]
            for row, values, words in zip(rows_of_places, top.values.tolist(), top.indices.tolist(), strict=True):
                found[row].append([(self._words[i], value) for i, value in zip(words, values, strict=True)])
        return found

    def _get_transformations(self, current_text: Any, indices_to_modify: Any) -> list[Any]:
        texts = []
        for index in sorted(indices_to_modify):
            word = current_text.words[index]
            start = current_text._text_index_of_word_index(index)
            [of_text] = self._likeliest([current_text.text], [[(start, start + len(word))]])
            for candidate, probability in of_text[0] if of_text else []:
                if probability >= MIN_PROBABILITY and candidate != word.lower():
                    texts.append(current_text.replace_word_at_index(index, match_case(word, candidate)))
        return texts


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
