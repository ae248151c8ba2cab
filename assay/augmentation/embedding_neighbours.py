"""Words that are close to a word in an embedding space made from a local encoder, as TextAttack's word swap.

TextAttack's `WordSwapEmbedding` downloads counter-fitted GloVe vectors. `find_neighbours` uses the encoder that is
there, and skips what such spaces are known to confuse: opposites (Mrkšić et al. 2016), other parts of speech, and forms
of the same word. Import it after `import_textattack`.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from assay.augmentation.augmenter import DrawnSwap
from assay.augmentation.recipes import Embedding
from assay.augmentation.wordnet import open_wordnet
from assay.augmentation.words import MIN_CHARACTERS, is_plain_word, match_case
from assay.compute.device import Device
from assay.compute.token_batches import tokenise
from assay.embeddings.encoder import embed_rows
from assay.embeddings.nearest import cosine_blocks

BLOCK_WORDS = 1024
SAME_STEM_CHARACTERS = 4
"""Words that begin with so many of the same letters are taken for forms of one word."""


class NeighbourSwap(DrawnSwap):
    """A word in the place of a neighbour; `neighbours` has those of each word in lower case."""

    def __init__(self, neighbours: dict[str, list[str]]) -> None:
        super().__init__()
        self.neighbours = neighbours

    def _get_replacement_words(self, word: str) -> list[str]:
        return [match_case(word, other) for other in self.neighbours.get(word.lower(), [])]


def find_neighbours(
    words: Iterable[str],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Embedding,
    wordnet: Path,
    device: Device,
) -> dict[str, list[str]]:
    """The words of the tokenizer's vocabulary that are closest to each word (in lower case), for those that have any.

    The model is an encoder in evaluation mode, on the device; a word alone is a text to it.
    """
    reader = open_wordnet(wordnet)
    vocabulary = sorted(
        token
        for token in tokenizer.get_vocab()
        if len(token) >= MIN_CHARACTERS and token.islower() and is_plain_word(token) and reader.synsets(token)
    )
    wanted = sorted(set(words))
    if not vocabulary or not wanted:
        return {}
    every = sorted({*vocabulary, *wanted})
    vectors = embed_rows(model, tokenise(tokenizer, every, 16), recipe.batch_size, device, 1).embeddings
    place = {word: number for number, word in enumerate(every)}
    known = vectors[[place[word] for word in vocabulary]]
    found = {}
    for rows, cosines in cosine_blocks(vectors[[place[word] for word in wanted]], known, BLOCK_WORDS):
        for word, of_word in zip(wanted[rows], cosines, strict=True):
            close = np.flatnonzero(of_word >= recipe.min_cosine)
            others = [vocabulary[i] for i in close[np.argsort(-of_word[close], kind="stable")]]
            if kept := [other for other in others if _may_replace(word, other, reader)][: recipe.neighbours]:
                found[word] = kept
    return found


def _may_replace(word: str, other: str, wordnet: WordNetCorpusReader) -> bool:
    """Whether two words share a part of speech, and are neither opposites nor forms of one word."""
    if word[:SAME_STEM_CHARACTERS] == other[:SAME_STEM_CHARACTERS]:
        return False
    senses, others = wordnet.synsets(word), wordnet.synsets(other)
    if not {_part(sense) for sense in senses[:1]} & {_part(sense) for sense in others[:1]}:
        return False
    lemmas = [lemma for sense in senses for lemma in sense.lemmas()]
    return other not in {opposite.name() for lemma in lemmas for opposite in lemma.antonyms()}


def _part(sense: object) -> str:
    """Part of speech, satellite adjectives among the adjectives."""
    part = str(sense.pos())  # type: ignore[attr-defined]
    return "a" if part == "s" else part
