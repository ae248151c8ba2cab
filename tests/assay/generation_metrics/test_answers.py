import numpy as np
import pytest

from assay.generation_metrics.answers import (
    chrf,
    content_words,
    cosines,
    is_refusal,
    repetition,
    same_label,
    uses_context,
)

REFUSAL = "I do not know. The passages do not answer this question."


def test_chrf_by_hand() -> None:
    # Of "abc" beside "abd": two of three letters, one of two pairs, no triple; longer runs there are none.
    assert chrf("the roof", "the roof") == pytest.approx(1.0)
    assert chrf("abc", "abd") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert chrf("", "the roof") == 0.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("positive", True), (" Positive.", True), ('"positive"', True), ("it is positive", False), ("", False)],
)
def test_a_label_and_nothing_else(answer: str, expected: bool) -> None:
    assert same_label(answer, "positive") is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (REFUSAL, True),
        ("I don\u2019t know that.", True),
        ("Sorry, the text does not answer this.", True),
        ("The fee is 5,000 SEK.", False),
        ("", False),
    ],
)
def test_refusals(answer: str, expected: bool) -> None:
    assert is_refusal(answer, REFUSAL) is expected


def test_content_words_are_numbers_and_long_words() -> None:
    assert content_words("The fee is 5,000 SEK for a Permit") == {"5", "000", "permit"}


def test_an_answer_uses_its_passages() -> None:
    passages = ["A permit takes 10 weeks at the municipality.", "Drawings are scaled 1:100."]
    question = "How long does a permit take?"
    assert uses_context("It takes 10 weeks at the municipality.", question, passages)
    assert not uses_context("A permit does take long.", question, passages)  # what the question says does not count
    assert not uses_context("Ask your architect about balconies, gardens, fences and 10 weeks.", question, passages)
    assert not uses_context("", question, passages)


def test_repetition_by_hand() -> None:
    assert repetition("a b c d") == 0.0
    assert repetition("a b c") == 0.0
    # Runs of four: abab, baba, abab, baba, abab: two different ones of five.
    assert repetition("a b a b a b a b") == pytest.approx(1 - 2 / 5)


def test_cosines_of_pairs() -> None:
    ones, others = np.array([[1, 0], [0, 1]], np.float32), np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert cosines(ones, others).tolist() == pytest.approx([1.0, 0.8])
