import math
import re
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.duplicates import near_duplicates, shingles
from assay.duplicates.near_duplicates import NearDuplicateParams, near_duplicate_groups, near_matches
from assay.duplicates.shingles import _BETWEEN_WORDS, Documents, Indices, compute_jaccard, normalise_texts
from assay.duplicates.signatures import fewest_equal, lsh_bands
from tests.own_cases import read_cases

WORDS = ["the", "phone", "camera", "screen", "battery", "price", "works", "great", "bad", "slow", "always", "picture"]


def shingle_set(text: str, size: int) -> set[str]:
    """Independent of the code under test: Python strings in a Python set."""
    text = text.casefold()
    return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}


def jaccard(left: str, right: str, size: int) -> float:
    a, b = shingle_set(left, size), shingle_set(right, size)
    return len(a & b) / len(a | b)


def corpus(rows: int, seed: int) -> list[str]:
    """Random sentences, and as many copies with one word changed, of every degree of similarity."""
    draw = np.random.default_rng(seed)
    base = [" ".join(draw.choice(WORDS, size=draw.integers(2, 26))) for _ in range(rows)]
    changed = []
    for text in base:
        words = text.split()
        words[draw.integers(len(words))] = str(draw.choice(WORDS))
        changed.append(" ".join(words))
    return base + changed


def brute_force_groups(texts: list[str], size: int, min_jaccard: float) -> list[int]:
    group = list(range(len(texts)))
    for right in range(len(texts)):
        for left in range(right):
            if group[left] != group[right] and jaccard(texts[left], texts[right], size) >= min_jaccard:
                keep, drop = sorted([group[left], group[right]])
                group = [keep if g == drop else g for g in group]
    return group


def groups(texts: list[str], min_jaccard: float = 0.8) -> list[int]:
    params = NearDuplicateParams(shingle_size=5, permutations=128, min_jaccard=min_jaccard)
    return [int(first) for first in near_duplicate_groups(pl.Series(texts, dtype=pl.String), params)]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pairs that are compared, as they come."""
    counts = []

    def counting(of: Documents, left: Indices, right: Indices) -> np.ndarray:
        counts.append(len(left))
        return compute_jaccard(of, left, right)

    monkeypatch.setattr(near_duplicates, "compute_jaccard", counting)
    return counts


def test_groups_equal_those_of_a_brute_force_search() -> None:
    texts = corpus(rows=80, seed=3)
    expected = brute_force_groups(texts, 5, 0.8)
    assert expected == groups(texts)
    assert len(texts) - len(set(expected)) > 20


def test_group_is_the_first_text_and_closes_over_chains() -> None:
    chain = ["abcdefghij" * 3 + tail for tail in ("klmn", "klmnop", "klmnopqr")]
    assert [jaccard(chain[i], chain[j], 5) >= 0.8 for i, j in ((0, 1), (1, 2), (0, 2))] == [True, True, False]
    assert groups([chain[2], "something else", chain[0], chain[1]]) == [0, 1, 0, 0]


SHORT_TEXTS: dict[str, tuple[list[str], list[int]]] = read_cases(__file__)["short_texts"]


@pytest.mark.parametrize(("texts", "expected"), SHORT_TEXTS.values(), ids=SHORT_TEXTS)
def test_groups_of_short_texts(texts: list[str], expected: list[int]) -> None:
    assert groups(texts) == expected


@given(st.lists(st.text("ab\u00e9\u0301 ", max_size=20), min_size=2, max_size=8), st.integers(1, 4))
def test_jaccard_of_any_size_equals_that_of_python_sets(texts: list[str], size: int) -> None:
    left, right = np.triu_indices(len(texts), 1)
    expected = [jaccard(texts[i], texts[j], size) for i, j in zip(left, right, strict=True)]
    assert pytest.approx(expected) == compute_jaccard(Documents(pl.Series(texts), size), left, right).tolist()


@given(st.lists(st.text("aB .,!?-\u2014\u00ab\t\n\u00a0\u3002+#\u00df", max_size=12)))
def test_normalised_equals_the_plain_replacement(texts: list[str]) -> None:
    expected = []
    for text in texts:
        folded = text.casefold()
        words = re.sub(rf"[ {_BETWEEN_WORDS}]+", " ", folded).strip(" ")
        expected.append(words or folded)
    assert normalise_texts(pl.Series(texts, dtype=pl.String)).to_list() == expected


@pytest.mark.slow
def test_texts_of_megabytes() -> None:
    long = "".join(np.random.default_rng(2).choice(list("abcdefghijklmnopqrstuvwxyz      "), size=1_000_000))
    assert groups(["ok", long, long + " and more", "words, " * 1_500_000]) == [0, 1, 1, 3]


def test_equal_texts_are_not_compared(compared: list[int]) -> None:
    assert set(groups(["One and the same text."] * 50_000)) == {0}
    assert sum(compared) == 0


def test_copies_of_one_template_cost_a_few_comparisons_each(compared: list[int]) -> None:
    texts = [f"Your parcel {i} will arrive on Monday at nine, please be at home or tell us" for i in range(20_000)]
    assert set(groups(texts)) == {0}
    assert sum(compared) < 4 * len(texts)


def test_unlike_texts_in_one_bucket_cost_a_bounded_number_of_comparisons(compared: list[int]) -> None:
    letters = np.random.default_rng(3).choice(list("abcdefghijklmnopqrstuvwxyz"), size=(3000, 20))
    texts = [f"Your parcel number {''.join(row)} will arrive on Monday at nine, please be home" for row in letters]
    texts.append(texts[0].replace("Monday", "monday,").replace("home", "homes"))
    found = groups(texts)
    assert found[-1] == 0
    assert len(set(found)) == 3000
    bands, _ = lsh_bands(128, 0.8)
    assert sum(compared) <= near_duplicates.MAX_DISTANCE * bands * len(texts)


@pytest.mark.parametrize(("threads", "characters"), [(1, 160_000), (3, 160_000), (3, 500), (1, 1)])
def test_groups_are_the_same_for_any_number_of_threads_and_any_chunk(
    threads: int, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = corpus(rows=400, seed=9)
    expected = groups(texts)
    monkeypatch.setattr(pl, "thread_pool_size", lambda: threads)
    monkeypatch.setattr(shingles, "CHARACTERS_AT_A_TIME", characters)
    assert groups(texts) == expected


@pytest.mark.parametrize("min_jaccard", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("permutations", [64, 128, 256])
def test_bands_keep_the_recall_at_the_threshold(permutations: int, min_jaccard: float) -> None:
    bands, rows = lsh_bands(permutations, min_jaccard)
    assert bands * rows <= permutations
    assert 1 - (1 - min_jaccard**rows) ** bands >= 0.99


@pytest.mark.parametrize(("rows", "min_jaccard"), [(126, 0.8), (126, 0.99), (64, 0.5), (16, 1.0), (16, 0.9)])
def test_estimate_keeps_nearly_all_pairs_at_the_threshold(rows: int, min_jaccard: float) -> None:
    fewest, exact = fewest_equal(rows, min_jaccard), Fraction(min_jaccard)
    missed = sum(math.comb(rows, equal) * exact**equal * (1 - exact) ** (rows - equal) for equal in range(fewest))
    next_ = math.comb(rows, fewest) * exact**fewest * (1 - exact) ** (rows - fewest)
    assert missed <= 0.001 < missed + next_


def test_bands_and_estimates_of_the_default_and_of_the_longest_signature() -> None:
    assert lsh_bands(128, 0.8) == (21, 6)
    assert fewest_equal(126, 0.8) == 86
    assert 0.27 * 4096 < fewest_equal(4096, 0.3) < 0.3 * 4096


def test_pairs_at_the_threshold_are_found() -> None:
    # 400 texts that differ from their partner in the last of 40 characters or so: Jaccard 0.80 to 0.85.
    draw = np.random.default_rng(8)
    base = ["".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz"), size=45)) for _ in range(400)]
    pairs = [(text, text[:-4] + "0000") for text in base]
    assert all(0.8 <= jaccard(left, right, 5) < 0.85 for left, right in pairs)
    found = groups([text for pair in pairs for text in pair])
    recall = sum(found[2 * i + 1] == 2 * i for i in range(len(pairs))) / len(pairs)
    assert recall >= 0.99


def matches(queries: list[str], references: list[str]) -> tuple[list[float], list[int]]:
    params = NearDuplicateParams(shingle_size=5, permutations=128, min_jaccard=0.8)
    found = near_matches(pl.Series(queries, dtype=pl.String), pl.Series(references, dtype=pl.String), params)
    return found["jaccard"].to_list(), found["index"].to_list()


def test_matches_equal_those_of_a_brute_force_search() -> None:
    texts = corpus(rows=120, seed=5)
    references, queries = texts[:120], texts[120:]
    jaccards, indices = matches(queries, references)
    for query, found, index in zip(queries, jaccards, indices, strict=True):
        scores = [jaccard(query, reference, 5) for reference in references]
        if max(scores) >= 0.8:
            assert scores.index(max(scores)) == index
            assert pytest.approx(max(scores)) == found
        else:
            assert found < 0.8


def test_the_first_of_equally_close_references_is_named() -> None:
    assert matches(["Good phone"], ["bad", "good phone", "GOOD PHONE"]) == ([1.0], [1])


def test_no_candidate_is_zero_and_minus_one() -> None:
    assert matches(["good phone", "ok"], ["entirely different"]) == ([0.0, 0.0], [-1, -1])
    assert matches(["good phone"], []) == ([0.0], [-1])
    assert matches([], ["good phone"]) == ([], [])
