import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay.augmentation.apply import augment_in_process, hide_tokens, show_tokens
from assay.augmentation.recipes import CharacterNoise, Eda, Synonym, WholeText
from assay.augmentation.textattack_import import readable_wordnet
from assay.augmentation.words import find_plain_words

WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))


def synonym(share_of_words: float) -> Synonym:
    return Synonym(name="synonym", share_of_rows=1.0, share_of_words=share_of_words)


def noise(*kinds: Any, share_of_words: float = 1.0) -> CharacterNoise:
    chosen = list(kinds) or ["swap", "delete", "insert", "keyboard"]
    return CharacterNoise(name="character_noise", share_of_rows=1.0, share_of_words=share_of_words, kinds=chosen)


def eda(*operations: Any, share_of_words: float = 0.5) -> Eda:
    chosen = list(operations) or ["replace", "insert", "swap", "delete"]
    return Eda(name="eda", share_of_rows=1.0, share_of_words=share_of_words, operations=chosen)


CONTRACTION = WholeText(name="contraction", share_of_rows=1.0)
RECIPES: list[Any] = [synonym(1.0), noise(), eda(), CONTRACTION]


def name_of(recipe: Any) -> str:
    return str(recipe.name)


def one(text: str, recipe: Any, scratch: Path, seed: int = 1) -> str:
    [copy] = augment_in_process([text], [seed], recipe, scratch)
    return copy


@pytest.fixture(scope="module")
def swap(scratch: Path) -> Any:
    from assay.augmentation.wordnet import WordNetSynonymSwap

    return WordNetSynonymSwap(readable_wordnet(scratch))


def plain_words(text: str) -> list[str]:
    """The words that may be altered."""
    from textattack.shared import AttackedText

    from assay.augmentation.augmenter import PlainWords

    attacked = AttackedText(text)
    return [attacked.words[i] for i in sorted(PlainWords()._get_modifiable_indices(attacked))]


@pytest.mark.parametrize(("word", "synonyms"), WORDS["synonyms"])
def test_synonyms_are_of_the_most_frequent_sense(swap: Any, word: str, synonyms: list[str]) -> None:
    assert swap._get_replacement_words(word) == synonyms


@pytest.mark.parametrize(
    ("word", "plural"), [("film", "films"), ("box", "boxes"), ("wish", "wishes"), ("city", "cities"), ("toy", "toys")]
)
def test_regular_s(scratch: Path, word: str, plural: str) -> None:
    from assay.augmentation import wordnet

    assert wordnet.add_s(word) == plural


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(("text", "words"), WORDS["altered"])
def test_what_may_be_altered(text: str, words: list[str]) -> None:
    assert plain_words(text) == words


@pytest.mark.parametrize(("text", "words"), WORDS["plain"])
def test_plain_words(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in find_plain_words(text)] == words


@pytest.mark.parametrize("recipe", [synonym(1.0), noise(), eda(share_of_words=1.0)], ids=name_of)
def test_placeholders_and_mentions_survive(scratch: Path, recipe: Any) -> None:
    text = "<EMAIL> hate @movie <URL> phone #great (<PHONE>) never movie"
    for seed in range(20):
        copy = one(text, recipe, scratch, seed)
        assert copy != text
        kept = [token for token in text.split() if set(token) & set("<@#")]
        assert [token for token in copy.split() if set(token) & set("<@#")] == kept


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_texts_with_nothing_to_alter_come_back(scratch: Path, recipe: Any) -> None:
    texts = ["", " ", "!!! :)", "it", "😀😀 🎉", "@movie <URL>", "<EMAIL>", "مرحبا بالعالم", "你好 世界", "3.50$ 24/7"]
    assert augment_in_process(texts, list(range(len(texts))), recipe, scratch) == texts


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.name != "own"], ids=name_of)
def test_ten_thousand_words(scratch: Path, recipe: Any) -> None:
    sentence = "I can't love the movie, but John from Denver paid {} dollars for a great phone."
    text = " ".join(sentence.format(30 + number) for number in range(625))
    copy = one(text, recipe, scratch)
    assert copy != text
    assert len(copy) == pytest.approx(len(text), rel=0.5)


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_copy_depends_on_its_text_and_seed_alone(scratch: Path, recipe: Any) -> None:
    texts = [
        "awful movie phone in Denver. I can't pay 30 for John, really.",
        "really cheap price. He is from Paris, Texas and knows Michael.",
        "happy but awful trouble, I am 25 now. Never mind.",
    ]
    seeds = [5, 2**64 - 1, 7]
    together = augment_in_process(texts, seeds, recipe, scratch)
    random.seed(99)
    np.random.seed(99)
    alone = [one(text, recipe, scratch, seed) for text, seed in zip(texts, seeds, strict=True)]
    assert alone == together
    assert together != texts


def test_share_of_words(scratch: Path) -> None:
    text = "awful movie phone price happy great really cheap hate trouble"
    for share, changed in ((0.05, 1), (0.3, 3), (1.0, 10)):
        copy = one(text, synonym(share), scratch)
        assert sum(old != new for old, new in zip(text.split(), copy.split(), strict=True)) == changed


def test_character_noise_keeps_the_ends_of_words(scratch: Path) -> None:
    copies = augment_in_process(["wonderful battery"] * 50, list(range(50)), noise(), scratch)
    assert len(set(copies)) > 20
    for copy in copies:
        first, second = copy.split()
        assert (first[0], first[-1], second[0], second[-1]) == ("w", "l", "b", "y")
        assert copy != "wonderful battery"


def test_each_kind_of_noise(scratch: Path) -> None:
    from assay.augmentation.character_noise import KEYS_BESIDE, misspell

    assert misspell("card", "swap") == ("crad",)
    assert misspell("card", "delete") == ("cad", "crd")
    assert len(misspell("card", "insert")) == 51  # 26 letters in 2 places; caard twice
    assert all(len(form) == 5 for form in misspell("card", "insert"))
    assert sorted(KEYS_BESIDE["g"]) == ["b", "f", "h", "t", "v", "y"]
    assert "cqrd" in misspell("card", "keyboard")
    assert "moclern" in misspell("modern", "ocr")
    assert set(misspell("card", "case")) >= {"CARD", "Card", "cArd"}
    assert one("CARDS", noise("swap"), scratch) in ("CRADS", "CADRS")
    for kind in ("swap", "delete", "insert", "keyboard", "ocr", "case"):
        assert one("wonderful", noise(kind), scratch) in misspell("wonderful", kind)


def test_operations_of_easy_data_augmentation(scratch: Path) -> None:
    text = "awful movie and a cheap phone"
    assert one(text, eda("replace"), scratch).split()[2:4] == ["and", "a"]
    assert len(one(text, eda("replace"), scratch).split()) == 6
    assert len(one(text, eda("insert"), scratch).split()) > 6
    assert sorted(one(text, eda("swap"), scratch).split()) == sorted(text.split())
    left = one(text, eda("delete"), scratch).split()
    assert set(left) < set(text.split())
    assert {"and", "a"} < set(left)
    # The last plain word stays, whatever the share.
    assert one("movie", eda("delete", share_of_words=1.0), scratch) == "movie"


@pytest.mark.parametrize(("text", "copy"), WORDS["contractions"])
def test_contractions(scratch: Path, text: str, copy: str) -> None:
    assert one(text, CONTRACTION, scratch) == copy


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_own_tokens_stay(recipe: Any, scratch: Path) -> None:
    tokens = ["[COL]", "[VAL]", "Ann [VAL]", "it's"]
    text = "[COL] brand [VAL] Acme. It's great, really[COL]wonderful price Ann [VAL] 28.0, and it's cheap in Paris"
    hidden = hide_tokens(text, tokens)
    assert show_tokens(hidden, tokens) == text
    for seed in range(20):
        copy = show_tokens(one(hidden, recipe, scratch, seed), tokens)
        assert sorted(re.findall(r"Ann \[VAL\]|\[COL\]|\[VAL\]|it's", copy)) == sorted(
            ["[COL]", "[VAL]", "[COL]", "Ann [VAL]", "it's"]
        )


def test_our_classes_work_in_textattacks_own_augmenter(scratch: Path) -> None:
    from textattack.augmentation import Augmenter

    from assay.augmentation.augmenter import KeyedAugmenter, PlainWords
    from assay.augmentation.character_noise import CharacterNoise as Noise
    from assay.augmentation.text_changes import Contraction

    random.seed(1)
    text = "the awful movie isn't <URL>"
    for transformation in (Noise(("swap",)), Contraction()):
        [copy] = Augmenter(transformation, constraints=[PlainWords()]).augment(text)
        assert copy != text
        assert "<URL>" in copy
        assert KeyedAugmenter(transformation, 0.5).augment(text) != [text]
