from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from assay.compute.token_batches import TokenRows, shuffled_batches, sorted_batches, tokenise

TEXTS = ["good card", "the bank is awful today", "x", "money transfer please help my account now"]


@pytest.fixture(scope="module")
def rows(tiny_encoder: Path) -> TokenRows:
    return tokenise(AutoTokenizer.from_pretrained(tiny_encoder), TEXTS, 16)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_that_of_the_tokenizer(tiny_encoder: Path, side: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder, padding_side=side)
    rows = tokenise(tokenizer, TEXTS, 16)
    order = np.array([3, 0, 2])
    expected = tokenizer([TEXTS[i] for i in order], padding=True, truncation=True, max_length=16, return_tensors="pt")
    ids, mask = rows.padded(order)
    assert ids.tolist() == expected["input_ids"].tolist()
    assert mask.tolist() == expected["attention_mask"].tolist()


def test_long_texts_are_cut(tiny_encoder: Path) -> None:
    assert tokenise(AutoTokenizer.from_pretrained(tiny_encoder), ["card " * 50], 16).lengths.tolist() == [16]


def test_sorted_batches_hold_each_row_once_longest_first() -> None:
    lengths = np.array([3, 9, 1, 9, 5])
    assert [batch.tolist() for batch in sorted_batches(lengths, 2)] == [[1, 3], [4, 0], [2]]


def test_shuffled_batches_hold_each_row_once_with_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1003)
    batches = shuffled_batches(lengths, 10, np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert padded / lengths.sum() < 1.1
    again = shuffled_batches(lengths, 10, np.random.default_rng(1))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]
    other = shuffled_batches(lengths, 10, np.random.default_rng(2))
    assert [batch.tolist() for batch in batches] != [batch.tolist() for batch in other]
