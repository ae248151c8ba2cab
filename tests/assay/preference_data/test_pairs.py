from collections.abc import Sequence
from typing import Any

import pytest

from assay.core.removed_rows import REMOVED_SCHEMA
from assay.human_review.preference_judgements import Preference
from assay.preference_data.pairs import (
    PAIRS_SCHEMA,
    AlteredAnswer,
    BaseAnswer,
    Candidate,
    SiblingAnswer,
    check_pairs,
    cut_to_sentences,
    make_altered_pairs,
    make_base_pairs,
    make_judged_pairs,
    make_sibling_pairs,
    sample_base_prompts,
    word_similarity,
)
from tests.own_cases import read_cases
from tests.preference_chats import BASE_ANSWER, REFUSAL, chat

CASES = read_cases(__file__)

PATH = "data/preferences.csv"
KEY = (1, "preferences")


def judgement(line: int, prompt: str, a: str, b: str, preferred: str, reviewer: str = "Ann") -> Preference:
    return Preference(line, prompt, a, b, preferred, reviewer, "2026-11-23", "m", "n")


def rejects(candidates: Sequence[Candidate]) -> dict[str, str]:
    return {one.id: one.reject for one in candidates if one.reject}


def test_judgements_are_counted_as_votes() -> None:
    lines = [
        judgement(2, "faq:1", "Good.", "Bad.", "a"),
        judgement(3, "faq:1", "Bad.", "Good.", "b", "Bo"),
        judgement(4, "faq:1", "Good.", "Bad.", "b", "Cy"),
        judgement(5, "faq:1", "Good.", "Other.", "b"),
    ]
    first, *others = [*make_judged_pairs(lines, {"faq:1": "train"}, "train", PATH, {"faq:1": "?"})][::-1]
    assert (first.chosen, first.rejected, first.detail) == ("Other.", "Good.", "1 of 1 judgements")
    pair = next(one for one in others if one.reject is None)
    assert (pair.chosen, pair.rejected, pair.detail) == ("Good.", "Bad.", "2 of 3 judgements")
    assert pair.pair_source == "human"
    assert rejects(others) == {f"{PATH}:3": "same_pair", f"{PATH}:4": "same_pair"}


def test_what_cannot_be_learnt_from_a_judgement_is_told() -> None:
    splits = {"faq:1": "train", "faq:2": "validation", "faq:3": "test"}
    lines = [
        judgement(2, "faq:1", "A.", "B.", "tie"),
        judgement(3, "faq:1", "A.", " A. ", "a"),
        judgement(4, "faq:1", " ", "B.", "b"),
        judgement(5, "faq:3", "A.", "B.", "a"),
        judgement(6, "faq:9", "A.", "B.", "a"),
        judgement(7, "faq:2", "A.", "B.", "a"),
        judgement(8, "faq:1", "C.", "D.", "a"),
        judgement(9, "faq:1", "C.", "D.", "b", "Bo"),
    ]
    train = [*make_judged_pairs(lines, splits, "train", PATH, dict.fromkeys(splits, "?"))]
    reasons = {2: "tie", 3: "equal_sides", 4: "empty_side", 5: "test_prompt", 6: "unknown_prompt", 8: "tie", 9: "tie"}
    assert rejects(train) == {f"{PATH}:{line}": reason for line, reason in reasons.items()}
    held_out = [*make_judged_pairs(lines, splits, "validation", PATH, dict.fromkeys(splits, "?"))]
    assert [(one.prompt_id, one.chosen, one.reject) for one in held_out] == [("faq:2", "A.", None)]
    # Each line is either a pair or a reject, once.
    assert len(train) + len(held_out) == len(lines)


def siblings(
    chats: list[dict[str, Any]], kinds: list[Any], refused: float = 0.0, labels: float = 1.0
) -> list[Candidate]:
    params = SiblingAnswer(pairs_per_prompt=1, kinds=kinds, refused_fraction=refused, label_fraction=labels)
    return [*make_sibling_pairs(chats, params, KEY)]


def test_a_sibling_is_of_the_category_that_is_asked_for() -> None:
    chats = [chat(number, "roof" if number < 5 else "wall") for number in range(10)]
    by_answer = {one["answer"]: one for one in chats}
    for kind, same in (("other_category", False), ("same_category", True)):
        for one, made in zip(chats, siblings(chats, [kind]), strict=True):
            sibling = by_answer[made.rejected]
            assert made.chosen == one["answer"]
            assert sibling["id"] != one["id"]
            assert (sibling["category"] == one["category"]) == same
            assert made.detail == f"{kind} {sibling['id']}"


def test_an_answer_of_the_same_group_is_no_sibling() -> None:
    chats = [chat(1), chat(2, "wall") | {"group": "group 1"}]
    assert rejects(siblings(chats, ["other_category"])) == {f"faq:{row}~sibling~0": "no_sibling" for row in (1, 2)}


def test_a_passage_that_is_shown_and_is_not_the_answer_is_one() -> None:
    chats = [chat(1, passages=2), chat(5, "wall", "unanswerable", passages=1), chat(8, "wall")]
    shown, unanswerable, without = siblings(chats, ["shown_passage", "other_category"])
    for _ in range(3):
        assert shown.rejected != chats[0]["answer"]
    only = siblings(chats, ["shown_passage"])
    assert only[0].rejected in chats[0]["context"][:2]
    assert (only[1].chosen, only[1].rejected) == (REFUSAL, chats[1]["context"][0])
    assert only[2].reject == "no_sibling"
    assert unanswerable.chosen == REFUSAL
    assert without.detail.startswith("other_category")


def test_a_label_stands_against_another_label() -> None:
    chats = [chat(number, word, "label", word) for number, word in enumerate(["good", "bad", "fair"])]
    for one, made in zip(chats, siblings(chats, ["other_category"]), strict=True):
        assert made.rejected in {"good", "bad", "fair"} - {one["answer"]}
        assert made.detail == "label"
    many = [chat(number, word, "label", word) for number in range(50) for word in ["good", "bad"]]
    many = [one | {"id": f"tweets:{place}"} for place, one in enumerate(many)]
    assert 30 <= len(siblings(many, ["other_category"], labels=0.5)) <= 70
    assert siblings(many, ["other_category"], labels=0.0) == []


def test_a_refusal_is_worse_where_the_answer_is_known() -> None:
    chats = [chat(number, "roof" if number < 20 else "wall") for number in range(40)]
    chats.append(chat(50, task="unanswerable", passages=1))
    refused = [one for one in siblings(chats, ["other_category"], refused=0.5) if one.detail == "refusal"]
    assert 10 <= len(refused) <= 30
    assert all(one.rejected == REFUSAL and one.chosen != REFUSAL for one in refused)
    # Without a refusal in the split there is none to show.
    assert not [one for one in siblings(chats[:-1], ["other_category"], refused=1.0) if one.detail == "refusal"]


def test_a_chat_keeps_its_draws_when_others_are_added() -> None:
    chats = [chat(number, "roof" if number % 2 else "wall", passages=2) for number in range(12)]
    altered = AlteredAnswer(pairs_per_prompt=2, needs_context=True)
    before = {one.id: one for one in make_altered_pairs(chats[:6], altered, KEY)}
    after = {one.id: one for one in make_altered_pairs(chats[::-1], altered, KEY)}
    assert before.items() <= after.items()
    shown = {one.id: one for one in siblings(chats[:6], ["shown_passage"])}
    assert shown.items() <= {one.id: one for one in siblings(chats, ["shown_passage"])}.items()


def test_an_altered_answer_needs_a_place_and_a_context() -> None:
    chats = [chat(1, passages=1), chat(2), chat(3, answer="Nice."), chat(4, task="unanswerable", passages=1)]
    made = [*make_altered_pairs(chats, AlteredAnswer(pairs_per_prompt=1, needs_context=False), KEY)]
    assert [one.prompt_id for one in made] == ["faq:1", "faq:2", "faq:3"]
    assert rejects(made) == {"faq:3~altered~0": "nothing_to_alter"}
    assert made[0].detail.split(":")[0] in {"number", "negation"}
    assert made[0].rejected != made[0].chosen == chats[0]["answer"]
    with_context = [*make_altered_pairs(chats, AlteredAnswer(pairs_per_prompt=3, needs_context=True), KEY)]
    assert {one.prompt_id for one in with_context} == {"faq:1"}
    told = [one.rejected for one in with_context if one.reject is None]
    assert len(told) == len(set(told))


def test_an_own_answer_as_good_as_the_true_one_is_none() -> None:
    chats = [chat(1), chat(2), chat(3)]
    said = ["Roof 1 must stand for 11 years!", "It never falls. Not at all. I am sure of that, as sure as can be.", ""]
    same, other, empty = make_base_pairs(chats, said, BaseAnswer.model_validate(BASE_ANSWER))
    assert same.reject == "like_the_true_answer"
    assert (other.rejected, other.reject) == ("It never falls. Not at all.", None)
    assert other.detail == "likeness 0.00, 27 of 65 characters"
    assert (empty.rejected, empty.reject) == ("", None)


def test_the_base_model_is_asked_so_many_prompts_with_words_for_answers() -> None:
    chats = [chat(number) for number in range(10)] + [chat(99, "bad", "label", "bad")]
    asked = sample_base_prompts(chats, 4, KEY)
    assert len({one["id"] for one in asked} - {"faq:99"}) == 4
    assert sample_base_prompts(chats[::-1], 4, KEY) == asked[::-1]
    assert len(sample_base_prompts(chats, 100, KEY)) == 10
    assert sample_base_prompts(chats, 0, KEY) == []


@pytest.mark.parametrize(("text", "characters", "cut"), CASES["a_text_is_cut_to_cut_to_sentences"])
def test_a_text_is_cut_to_cut_to_sentences(text: str, characters: int, cut: str) -> None:
    assert cut_to_sentences(text, characters) == cut


def test_similarity_is_one_for_the_same_words() -> None:
    assert word_similarity("Ten weeks, yes.", "ten weeks yes") == 1.0
    assert word_similarity("ten weeks", "never") == 0.0
    assert word_similarity("a b c d", "a b x d") == pytest.approx(0.75)


def test_pairs_that_cannot_be_learnt_from_are_told_with_their_reason() -> None:
    chats = {f"faq:{number}": chat(number) for number in range(5)}

    def candidate(number: int, chosen: str, rejected: str, reject: str | None = None) -> Candidate:
        return Candidate(f"{number}", f"faq:{number}", "sibling_answer", chosen, rejected, "d", reject)

    def too_long(whole: list[list[Any]]) -> list[bool]:
        return [len(messages[-1]["content"]) > 10 for messages in whole]

    candidates = [candidate(0, " Good. ", "Bad."), candidate(1, "Same.", "Same. "), candidate(2, "Good.", "")]
    candidates += [candidate(3, "Good.", "x" * 11), candidate(4, "Good.", "", "no_sibling")]
    made = check_pairs(candidates, chats, too_long)
    assert made.kept.schema == PAIRS_SCHEMA
    assert made.removed.schema == REMOVED_SCHEMA
    (kept,) = made.kept.to_dicts()
    assert (kept["chosen"], kept["rejected"], kept["category"]) == ("Good.", "Bad.", "roof")
    assert [message["role"] for message in kept["messages"]] == ["system", "user"]
    reasons = {"1": "equal_sides", "2": "empty_side", "3": "max_tokens", "4": "no_sibling"}
    assert dict(made.removed.select("id", "rule").iter_rows()) == reasons
    assert made.removed["before"][0] == "Same.\n---\nSame. "
