"""Lengths of texts in a model's own tokens, and the cheap test for the few that are too long.

A text of at most `PIECE_CHARACTERS` characters is counted exactly. A longer one is counted in pieces that end at white
space, so that one of many megabytes takes neither the memory nor, where only a limit matters, the time of all of it:
tokenizers cut at white space as well. Only a single word longer than a piece is counted a little differently: as the
sum of its pieces.
"""

from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path

import polars as pl
from tokenizers import Tokenizer

from assay.core.errors import InputError

PIECE_CHARACTERS = 20_000
BATCH_TEXTS = 1_000
"""Texts tokenised in one call: what comes back holds offsets and masks, some 100 bytes a token."""


def token_counts(texts: pl.Series, tokenizer_file: Path) -> pl.Series:
    """How many tokens each text has, with those that the tokenizer puts around it, such as `[CLS]`; null has null.

    Raises `InputError`: `tokenizer_file` is no `tokenizer.json` of a model; its truncation and padding do not count.
    """
    tokenizer = _loaded(tokenizer_file)
    added = tokenizer.num_special_tokens_to_add(is_pair=False)
    counts: list[int | None] = [None] * len(texts)
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = [(row, text) for row, text in enumerate(texts.slice(start, BATCH_TEXTS), start) if text is not None]
        short = [(row, text) for row, text in batch if len(text) <= PIECE_CHARACTERS]
        encoded = tokenizer.encode_batch_fast([text for _, text in short])
        for (row, _), encoding in zip(short, encoded, strict=True):
            counts[row] = len(encoding)
        for row, text in batch:
            if len(text) > PIECE_CHARACTERS:
                counts[row] = added + sum(_piece_counts(tokenizer, text))
    return pl.Series(texts.name, counts, dtype=pl.UInt32)


def longer_than(texts: pl.Series, tokenizer_file: Path, max_tokens: int) -> pl.Series:
    """Whether each text has more tokens than `max_tokens`; null has not.

    A token stands for at least a byte of the text, once characters are decomposed as some tokenizers do: so only texts
    with enough bytes are tokenised at all, and a long one only as far as the limit. Otherwise as `token_counts`.
    """
    tokenizer = _loaded(tokenizer_file)
    # One more for the space that some tokenizers put before the first word.
    around = tokenizer.num_special_tokens_to_add(is_pair=False) + 1
    size = texts.str.len_bytes().fill_null(0)
    is_wide = texts.str.len_chars().fill_null(0) < size
    rows = (~is_wide & (size + around > max_tokens)).arg_true()
    if is_wide.any():
        wide = is_wide.arg_true()
        decomposed = texts.gather(wide).str.normalize("NFKD").str.len_bytes()
        rows = rows.append(wide.filter(decomposed + around > max_tokens))
    chosen = texts.gather(rows)
    short = chosen.str.len_chars() <= PIECE_CHARACTERS
    exceeds = token_counts(chosen.filter(short), tokenizer_file) > max_tokens
    long = [
        any(count > max_tokens for count in accumulate(_piece_counts(tokenizer, text), initial=around - 1))
        for text in chosen.filter(~short)
    ]
    found = rows.filter(short).filter(exceeds).append(rows.filter(~short).filter(pl.Series(long, dtype=pl.Boolean)))
    return pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True).alias(texts.name).scatter(found, True)


@cache
def _loaded(tokenizer_file: Path) -> Tokenizer:
    if not tokenizer_file.is_file():
        raise InputError(f"{tokenizer_file}: no such file; give the path of a model's tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # what the Rust library raises has no type of its own
        message = f"{tokenizer_file}: no tokenizer: {error}; give the path of a model's tokenizer.json"
        raise InputError(message) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _piece_counts(tokenizer: Tokenizer, text: str) -> Iterator[int]:
    """Tokens of a long text, piece by piece, without those around it."""
    start = 0
    while start < len(text):
        end = start + PIECE_CHARACTERS
        if end < len(text):
            # White space other than a space is as good, but a space is what there nearly always is.
            space = text.rfind(" ", start + 1, end)
            end = space if space > 0 else end
        yield len(tokenizer.encode(text[start:end], add_special_tokens=False))
        start = end
