import pytest

from assay.generation_metrics.answers import chrf, is_refusal

REFUSAL = "I do not know. The passages do not answer this question."


def test_chrf_by_hand() -> None:
    # Of "abc" beside "abd": two of three letters, one of two pairs, no triple; longer runs there are none.
    assert chrf("the roof", "the roof") == pytest.approx(1.0)
    assert chrf("abc", "abd") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert chrf("", "the roof") == 0.0


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
