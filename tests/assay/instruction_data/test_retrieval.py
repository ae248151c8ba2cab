import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.instruction_data.retrieval import search_by_meaning, search_by_words

PASSAGES = ["cards card fee", "fee fee refund", "refund time card", "late card"]


def bm25(question: list[str], passages: list[list[str]], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Lucene's form of BM25, written down again: Kamphuis et al. 2020, table 1."""
    mean = sum(map(len, passages)) / len(passages)
    scores = []
    for words in passages:
        score = 0.0
        for word in question:
            documents = sum(word in other for other in passages)
            idf = math.log(1 + (len(passages) - documents + 0.5) / (documents + 0.5))
            count = words.count(word)
            score += idf * count / (count + k1 * (1 - b + b * len(words) / mean))
        scores.append(score)
    return scores


def test_scores_are_those_of_the_formula() -> None:
    found = search_by_words(["fee for a refund"], PASSAGES, 3)
    expected = bm25(["fee", "refund"], [passage.split() for passage in PASSAGES])
    order = sorted(range(4), key=lambda number: -expected[number])[:3]
    assert found.index.tolist() == [order]
    assert found.score[0] == pytest.approx([expected[number] for number in order], rel=1e-5)


def test_a_passage_without_a_word_of_the_question_is_not_found() -> None:
    found = search_by_words(["late", "the unknown", ""], PASSAGES, 2)
    assert found.index.tolist() == [[3, -1], [-1, -1], [-1, -1]]


def test_the_first_of_equal_passages_comes_first() -> None:
    found = search_by_words(["refund"], ["a refund", "other words", *["a refund"] * 5], 3)
    assert found.index.tolist() == [[0, 2, 3]]


@pytest.mark.parametrize(("questions", "passages"), [([], ["text"]), (["text"], []), (["text"], ["of the"])])
def test_nothing_to_search(questions: list[str], passages: list[str]) -> None:
    assert search_by_words(questions, passages, 2).index.tolist() == [[-1, -1]] * len(questions)


def test_by_meaning_is_by_cosine() -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(1300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions, passages = vectors[:1000], vectors[1000:]
    found = search_by_meaning(questions, passages, 5)
    expected = np.argsort(-(questions.astype(np.float64) @ passages.T.astype(np.float64)), axis=1)[:, :5]
    assert (found.index == expected).mean() > 0.999
    assert found.score[0, 0] == pytest.approx(float(questions[0] @ passages[expected[0, 0]]), abs=1e-5)
    assert search_by_meaning(questions[:1], passages[:2], 4).index[0, 2:].tolist() == [-1, -1]
    assert search_by_meaning(questions[:2], passages[:0], 1).index.tolist() == [[-1], [-1]]


@pytest.mark.slow
def test_the_same_whatever_the_hash_seed(repository: Path) -> None:
    code = (
        "from assay.instruction_data.retrieval import search_by_words\n"
        "passages = [f'word{n % 7} other{n % 5} more{n % 3} of it' for n in range(60)]\n"
        "found = search_by_words(passages[:20], passages, 9)\n"
        "print(found.index.tolist(), found.score.tobytes().hex())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=repository,
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
