import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib.textattack_copies import altered_copies
from stages.lib.textattack_import import import_textattack, readable_wordnet, write_textattack_data
from tests.mini_wordnet import write_mini_wordnet


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("textattack")
    write_mini_wordnet(folder / "wordnet")
    write_textattack_data(folder / "wordnet", folder / "scratch")
    import_textattack(folder / "scratch")
    return folder / "scratch"


@pytest.fixture(scope="module")
def swap(scratch: Path) -> Any:
    from stages.lib.word_swaps import WordNetSynonymSwap

    return WordNetSynonymSwap(readable_wordnet(scratch))


def plain_words(text: str) -> list[str]:
    """The words that may be altered."""
    from textattack.shared import AttackedText

    from stages.lib.word_swaps import PlainWords

    attacked = AttackedText(text)
    return [attacked.words[i] for i in sorted(PlainWords()._get_modifiable_indices(attacked))]


@pytest.mark.filterwarnings("ignore:The multilingual functions")
def test_the_mini_wordnet_reads_as_the_real_one(scratch: Path) -> None:
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    wordnet = WordNetCorpusReader(str(readable_wordnet(scratch)), None)
    assert [synset.lemma_names()[0] for synset in wordnet.synsets("good")] == ["good", "dear"]
    assert [lemma.count() for lemma in wordnet.lemmas("good")] == [159, 1]
    assert wordnet.synsets("movies")[0].definition() == "a form of entertainment"
    assert wordnet.synsets("bought")[0].lemma_names() == ["buy", "purchase"]


@pytest.mark.parametrize(
    ("word", "synonyms"),
    [
        ("movie", ["film"]),  # not "picture", which is mostly an image; not "pic", which is too short
        ("picture", ["image"]),
        ("really", ["genuinely", "truly"]),
        ("movies", ["films"]),
        ("hates", ["detests"]),
        ("Phone", ["Telephone"]),
        ("PHONES", ["TELEPHONES"]),
        ("good", []),  # alone in its first sense; "dear" is a rare one
        ("bought", []),  # an inflected form that has no regular synonym
        ("John", []),  # a name, although "lavatory" has the same base form
        ("never", []),  # "ne'er" has an apostrophe
        ("greatest", []),  # its synonyms do not compare
        ("xyzzy", []),
    ],
)
def test_synonyms_are_of_the_most_frequent_sense(swap: Any, word: str, synonyms: list[str]) -> None:
    assert swap._get_replacement_words(word) == synonyms


@pytest.mark.parametrize(
    ("word", "with_s"), [("film", "films"), ("box", "boxes"), ("wish", "wishes"), ("city", "cities"), ("toy", "toys")]
)
def test_regular_s(scratch: Path, word: str, with_s: str) -> None:
    from stages.lib import word_swaps

    assert word_swaps.with_s(word) == with_s


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Great movie, really great!", ["Great", "movie", "really", "great"]),
        ("I was NOT very happy with it", ["happy"]),
        ("thanks @movie #great RT", ["thanks", "RT"]),
        ("mail <EMAIL> or visit <URL>, ring <PHONE>", ["mail", "visit", "ring"]),
        ("movie.com and 3movies and love/hate", []),
        ("don't dont cant", []),
        ("met John at McDonalds. Love it", ["met", "Love"]),
        ("“great” café", ["great"]),
        ("great <SPLIT> movie", []),
    ],
)
def test_what_may_be_altered(text: str, words: list[str]) -> None:
    assert plain_words(text) == words


@pytest.mark.parametrize("recipe", ["synonym", "character_noise"])
def test_placeholders_and_mentions_survive(scratch: Path, recipe: Any) -> None:
    text = "<EMAIL> hate @movie <URL> phone #great (<PHONE>) never movie"
    for seed in range(20):
        [copy] = altered_copies([text], [seed], recipe, 1.0, scratch)
        assert copy != text
        kept = {position: token for position, token in enumerate(text.split()) if set(token) & set("<@#")}
        assert {position: copy.split()[position] for position in kept} == kept


def test_character_noise_keeps_the_ends_of_words(scratch: Path) -> None:
    copies = altered_copies(["wonderful battery"] * 50, list(range(50)), "character_noise", 1.0, scratch)
    assert len(set(copies)) > 20
    for copy in copies:
        first, second = copy.split()
        assert (first[0], first[-1], second[0], second[-1]) == ("w", "l", "b", "y")
        assert copy != "wonderful battery"


def test_share_of_words(scratch: Path) -> None:
    text = "awful movie phone price happy great really cheap hate trouble"
    for share, changed in ((0.05, 1), (0.3, 3), (1.0, 10)):
        [copy] = altered_copies([text], [1], "synonym", share, scratch)
        assert sum(old != new for old, new in zip(text.split(), copy.split(), strict=True)) == changed


def test_a_copy_depends_on_its_text_and_seed_alone(scratch: Path) -> None:
    texts, seeds = ["awful movie phone", "really cheap price", "happy but awful trouble"], [5, 2**64 - 1, 7]
    together = altered_copies(texts, seeds, "synonym", 0.5, scratch)
    random.seed(99)
    np.random.seed(99)
    alone = [
        altered_copies([text], [seed], "synonym", 0.5, scratch)[0] for text, seed in zip(texts, seeds, strict=True)
    ]
    assert alone == together


def test_a_text_without_words_to_alter_comes_back(scratch: Path) -> None:
    texts = ["", "!!! :)", "it is", "@movie <URL>"]
    assert altered_copies(texts, [1, 2, 3, 4], "synonym", 0.5, scratch) == texts
    assert altered_copies(texts, [1, 2, 3, 4], "character_noise", 0.5, scratch) == texts
