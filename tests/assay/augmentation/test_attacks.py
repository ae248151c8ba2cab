import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.augmentation.textattack_import import readable_wordnet

# TextAttack's, of its own logging.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")

Model = Callable[[list[str]], NDArray[np.float64]]


def word_model(*words: str) -> tuple[Model, list[list[str]]]:
    """A model that says 1 the surer, the more of the words are in a text, and a list of what it is asked."""
    asked: list[list[str]] = []

    def probabilities(texts: list[str]) -> NDArray[np.float64]:
        asked.append(texts)
        hits = np.array([sum(word in text.split() for word in words) for text in texts])
        share = 0.4 + 0.5 * hits / len(words)
        return np.stack([1 - share, share], axis=1)

    return probabilities, asked


def attack(scratch: Path, name: str, model: Model, text: str, target: int = 1, budget: int = 100) -> Any:
    from assay.augmentation.attacks import attack_text, build_attacks

    return attack_text(build_attacks(model, budget, 4, readable_wordnet(scratch))[name], text, target, 2**63)


def test_synonyms_mislead_a_model_that_goes_by_words(scratch: Path) -> None:
    model, _ = word_model("great")
    one = attack(scratch, "wordnet", model, "a great card for my phone today")
    assert (one.outcome, one.after) == ("succeeded", "a outstanding card for my phone today")
    assert one.changed_words == pytest.approx(1 / 7)
    assert one.alterable


def test_typing_errors_mislead_a_model_that_goes_by_words(scratch: Path) -> None:
    model, _ = word_model("great")
    one = attack(scratch, "deep_word_bug", model, "a great card today")
    assert one.outcome == "succeeded"
    before, after = ["a", "great", "card", "today"], one.after.split()
    assert [old for old, new in zip(before, after, strict=True) if old != new] == ["great"]


@pytest.mark.parametrize("name", ["deep_word_bug", "wordnet"])
@pytest.mark.parametrize(
    "text", ["<URL>", "@movie the #movie is not <EMAIL> <URL>", "mail <EMAIL>movie and movie.example/phone", "… !", ""]
)
def test_placeholders_mentions_and_addresses_stay(scratch: Path, name: str, text: str) -> None:
    model, _ = word_model("<URL>", "@movie", "<EMAIL>movie")
    one = attack(scratch, name, model, text, target=int(model([text])[0].argmax()))
    assert one.outcome == "failed"
    kept = [word for word in text.split() if word != "mail"]
    assert [word for word in one.after.split() if word in kept] == kept


@pytest.mark.parametrize("name", ["deep_word_bug", "wordnet"])
def test_a_text_that_the_model_gets_wrong_is_skipped(scratch: Path, name: str) -> None:
    model, _ = word_model("great")
    one = attack(scratch, name, model, "a great card", target=0)
    assert (one.outcome, one.after, one.queries, one.alterable, one.changed_words) == ("skipped", None, 1, None, None)


@pytest.mark.parametrize("budget", [2, 5, 9, 200])
@pytest.mark.parametrize("name", ["deep_word_bug", "wordnet"])
def test_no_attack_asks_for_more_than_its_budget(scratch: Path, name: str, budget: int) -> None:
    text = "great movie with a really cheap phone and an awful price problem"
    model, asked = word_model("great", "movie", "really", "cheap", "phone", "awful", "price", "problem", "a", "with")
    one = attack(scratch, name, model, text, budget=budget)
    assert sum(map(len, asked)) <= one.queries <= budget
    assert max(map(len, asked)) <= 4
    if budget == 200:
        assert one.queries > 9


def test_typing_errors_are_made_as_in_the_recipe(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from textattack.attack_recipes import DeepWordBugGao2018
    from textattack.constraints.pre_transformation import StopwordModification

    from assay.augmentation.attacks import Victim, build_attacks

    # Without any it looks for a file of NLTK's.
    stop_words = StopwordModification(["the"])
    monkeypatch.setattr("textattack.attack_recipes.deepwordbug_gao_2018.StopwordModification", lambda: stop_words)
    model, _ = word_model("great")
    recipe = DeepWordBugGao2018.build(Victim(model))
    ours = build_attacks(model, 100, 8, readable_wordnet(scratch))["deep_word_bug"]
    assert str(ours.transformation) == str(recipe.transformation)
    assert str(ours.search_method) == str(recipe.search_method)
    assert list(map(str, ours.constraints)) == list(map(str, recipe.constraints))
    of_recipe = set(map(type, recipe.pre_transformation_constraints))
    assert {kind.__name__ for kind in {*map(type, ours.pre_transformation_constraints)} - of_recipe} == {"PlainWords"}


def test_an_attack_depends_on_nothing_that_came_before(
    scratch: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from assay.augmentation.attacks import attack_text, build_attacks

    model, _ = word_model("great", "card", "today")
    attacks = build_attacks(model, 60, 8, readable_wordnet(scratch))
    ended = []
    for state in range(2):
        random.seed(state)
        np.random.seed(state)
        attack_text(attacks["deep_word_bug"], "another great text today", state, state)
        ended.append(attack_text(attacks["deep_word_bug"], "a great card today", 1, 7))
    assert ended[0] == ended[1]
    other = {attack_text(attacks["deep_word_bug"], "a great card today", 1, seed).after for seed in range(8)}
    assert len(other) > 1
    # TextAttack has a handler of its own.
    assert not caplog.records
    assert capfd.readouterr().err == ""
