import numpy as np
from numpy.typing import NDArray

from assay.duplicates.near_duplicates import NearDuplicateParams
from assay.instruction_data.distractors import (
    Exchange,
    TextVectors,
    UnanswerableParams,
    find_distractors,
    keep_far_from_answers,
    shuffle_for,
    take_fitting,
)


def exchange(name: str, answer: str, question: str = "why?", group: str | None = None) -> Exchange:
    return Exchange(name, group or name, question, answer)


def found(*rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64)


def test_a_row_and_its_group_are_no_distractors() -> None:
    base = [exchange("a", "1", group="g"), exchange("b", "2", group="g"), exchange("c", "3")]
    asked = [base[0], exchange("new", "4")]
    assert find_distractors(asked, base, found([1, 0, 2], [2, 1, -1])) == [[base[2]], [base[2], base[1]]]


def test_passages_fit_into_the_characters() -> None:
    some = [exchange("a", "x" * 5), exchange("b", "x" * 9), exchange("c", "x" * 4), exchange("d", "x")]
    assert [one.id for one in take_fitting(some, 2, 10)] == ["a", "c"]
    assert [one.id for one in take_fitting(some, 3, 10)] == ["a", "c", "d"]
    assert take_fitting(some, 0, 10) == []


def test_the_order_is_drawn_by_row_and_not_by_the_order_given() -> None:
    some = [exchange(name, name) for name in "abcd"]
    assert shuffle_for("row", some, (7,)) == shuffle_for("row", some[::-1], (7,))
    orders = {tuple(one.id for one in shuffle_for(f"row{number}", some, (7,))) for number in range(50)}
    assert len(orders) > 10


def far(asked: Exchange, *candidates: Exchange, max_cosine: float | None = None) -> list[str]:
    texts = [text for one in (asked, *candidates) for text in (one.question, one.answer)]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    # A text that begins with another letter points another way.
    vectors = np.array([[text[0] == letter for letter in "abcdefgh"] for text in numbers], dtype=np.float32)
    ((*kept,),) = keep_far_from_answers(
        [asked],
        [candidates],
        UnanswerableParams(fraction=1.0, refusal="No.", max_jaccard=0.3, max_cosine=max_cosine),
        NearDuplicateParams(shingle_size=3, permutations=128, min_jaccard=0.8),
        TextVectors(numbers, vectors),
    )
    return [one.id for one in kept]


def test_passages_that_may_answer_are_skipped() -> None:
    asked = exchange("own", "a permit costs 5,000 kronor", "b question")
    assert far(asked, exchange("same words", "A permit costs more kronor!")) == []
    assert far(asked, exchange("same number", "count on 5,000 at least")) == []
    assert far(asked, exchange("other number", "count on 5,500 at least")) == ["other number"]
    assert far(asked, exchange("other", "nobody knows")) == ["other"]
    like_answer, like_question = exchange("like answer", "all in all"), exchange("like question", "nobody", "b?")
    assert far(asked, like_answer, like_question) == ["like answer", "like question"]
    assert far(asked, like_answer, like_question, exchange("far", "c", "d"), max_cosine=0.5) == ["far"]


def test_without_candidates_there_are_none() -> None:
    assert far(exchange("own", "answer")) == []
