from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from assay.core.errors import InputError
from assay.text import token_lengths
from assay.text.token_lengths import longer_than, token_counts

WORDS = ["the", "card", "has", "not", "arr", "##ived", "caf", "##e", "a", "##a", ".", ","]


@pytest.fixture(scope="module")
def word_piece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small uncased tokenizer that puts two tokens around a text, and truncates and pads, as published ones do."""
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    path = tmp_path_factory.mktemp("word_piece") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def bytes_of_compatibility_forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a token for each byte of the NFKD form, and one before: the most tokens that a text can have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKD()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def counts(path: Path, *texts: str | None) -> list[int | None]:
    return token_counts(pl.Series("text", texts, dtype=pl.String), path).to_list()


def test_counts_are_of_whole_texts_with_the_tokens_around_them(word_piece: Path) -> None:
    assert counts(word_piece, "The card has not arrived.", "", None, "the " * 50) == [9, 2, None, 52]
    assert token_counts(pl.Series("text", ["a"]), word_piece).dtype == pl.UInt32


def test_longer_than_is_a_strict_bound_and_false_for_null(word_piece: Path) -> None:
    texts = pl.Series("text", ["The card has not arrived.", None, "", "the " * 50])
    assert longer_than(texts, word_piece, 9).to_list() == [False, False, False, True]
    assert longer_than(texts, word_piece, 8).to_list() == [True, False, False, True]
    assert longer_than(texts, word_piece, 1).to_list() == [True, False, True, True]
    assert longer_than(texts, word_piece, 52).to_list() == [False] * 4


def test_a_long_text_counts_as_its_pieces_do(word_piece: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "the card has not arrived, " * 40
    whole = counts(word_piece, text)
    monkeypatch.setattr(token_lengths, "PIECE_CHARACTERS", 50)
    assert counts(word_piece, text) == whole == [282]
    assert longer_than(pl.Series([text]), word_piece, 281).to_list() == [True]
    assert longer_than(pl.Series([text]), word_piece, 282).to_list() == [False]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["the " * 500_000, "a" * 1_000_000, "é" * 500_000, "漢" * 300_000, "\n" * 1_000_000])
@pytest.mark.timeout(100)  # seconds; quadratic would be minutes
def test_a_megabyte_in_one_cell_takes_a_moment(text: str, word_piece: Path) -> None:
    longer_than(pl.Series([text]), word_piece, 512)


@given(
    texts=st.lists(
        st.none() | st.text(max_size=40) | st.sampled_from(["\ufdfa", "\u0390" * 9, "the card " * 9]), max_size=6
    )
)
def test_the_bound_by_bytes_never_lets_a_longer_text_pass(
    word_piece: Path, bytes_of_compatibility_forms: Path, texts: list[str | None]
) -> None:
    column = pl.Series("text", texts, dtype=pl.String)
    for path in (word_piece, bytes_of_compatibility_forms):
        for most in (1, 5, 17, 40):
            expected = (token_counts(column, path) > most).fill_null(False)
            assert longer_than(column, path, most).to_list() == expected.to_list()


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such file; give the path of a model's tokenizer\.json"):
        counts(tmp_path / "nowhere.json", "a")


@pytest.mark.parametrize("content", ["", "{}", "[1]", "not json"])
def test_a_file_without_a_tokenizer_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"config\.json: no tokenizer: "):
        longer_than(pl.Series(["a"]), path, 5)
