"""Rows for the benchmarks, as many as wanted, made from real ones by seed, with work for the cleaning planted in them.

A row is a few fragments of three to five words, each of another real row: so the words, their spelling and the length
of the rows are those of the data, and two rows seldom have much in common. Of every chunk of rows

- 10% are edited copies of other rows of the chunk, in the ways of `EDITS`: some equal but for case and punctuation,
  most around the threshold of near-duplicates, some below;
- 5% are marked up as HTML, 1% are mojibake, 1% have zero-width or control characters, 5% hold personal data (Faker's),
  2% are e-mails of several lines with a quoted reply, a signature and the same footer.

A row has one of these at most, and a row that was copied has none; so a pair that was planted stays one when the rows
are cleaned. Every chunk is drawn for itself: 100,000 rows are the first of a million, and memory does not grow.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from faker import Faker

from assay.core.outputs import write_parquet
from assay.sources.records import RECORDS_SCHEMA

CHUNK_ROWS = 50_000
COPIES, ORIGINALS = 0.10, 0.08
"""Shares of the rows; some originals have more than one copy."""
DIRT = {"markup": 0.05, "mojibake": 0.01, "invisible": 0.01, "personal_data": 0.05, "e_mail": 0.02}
MOST_FRAGMENTS = 5
VALUES_PER_KIND = 500

TEXTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes:
        pairs: `original`, `copy` (positions among the rows), `edit`.
        dirty: positions of the rows with something of `DIRT`.
    """

    pairs: pl.DataFrame
    dirty: list[int]


def write_million_rows(path: Path, rows: int, seed: int, base: pl.Series) -> Truth:
    """Write a table in the ingested form (`RECORDS_SCHEMA`).

    Args:
        path: of the Parquet file.
        rows: number of rows, a million or another.
        seed: same seed, same rows.
        base: texts that the rows are made from, some thousands.
    """
    truths = []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for number, (records, truth) in enumerate(row_chunks(rows, seed, base)):
            records.write_parquet(Path(folder) / f"{number:06d}.parquet")
            truths.append(truth)
        write_parquet(pl.scan_parquet(sorted(Path(folder).glob("*.parquet"))), path)
    return Truth(pl.concat(truth.pairs for truth in truths), [row for truth in truths for row in truth.dirty])


def row_chunks(rows: int, seed: int, base: pl.Series) -> Iterator[tuple[pl.DataFrame, Truth]]:
    """The rows that `write_million_rows` writes, `CHUNK_ROWS` at a time."""
    pieces = fragments(base)
    values = personal_data(seed)
    for number, start in enumerate(range(0, rows, CHUNK_ROWS)):
        draw = np.random.default_rng([seed, number])
        yield _chunk(start, min(CHUNK_ROWS, rows - start), pieces, values, draw)


def fragments(base: pl.Series) -> pl.Series:
    """Runs of three to five words of the texts."""
    words = base.drop_nulls().str.split(" ").to_list()
    size = [3, 4, 5]
    runs, turn = [], 0
    for text in words:
        start = 0
        while start + 3 <= len(text):
            runs.append(" ".join(text[start : start + size[turn % 3]]))
            start += size[turn % 3]
            turn += 1
    return pl.Series("fragment", runs, dtype=pl.String).unique(maintain_order=True)


def personal_data(seed: int) -> list[list[str]]:
    """Values of each kind of personal data."""
    fake = Faker("en_US")
    fake.seed_instance(seed)
    makers: list[Callable[[], str]] = [fake.email, lambda: fake.numerify("+1 ###-###-####"), fake.credit_card_number]
    return [[make() for _ in range(VALUES_PER_KIND)] for make in (*makers, fake.iban, fake.ipv4_public)]


def _chunk(
    start: int, rows: int, pieces: pl.Series, values: list[list[str]], draw: np.random.Generator
) -> tuple[pl.DataFrame, Truth]:
    """Rows from position `start` on."""
    texts = _recombined(rows, pieces, draw).to_list()
    sources = ["tickets"] * rows
    order: list[int] = draw.permutation(rows).tolist()

    def taken(share: float) -> list[int]:
        count = int(share * rows)
        some: list[int] = order[:count]
        del order[:count]
        return some

    copies, originals = taken(COPIES), taken(ORIGINALS)
    edits = draw.choice(list(EDITS), size=len(copies), p=list(SHARE_OF_EDITS.values())).tolist()
    whose = draw.choice(originals, size=len(copies)).tolist() if originals else []
    for row, original, edit in zip(copies, whose, edits, strict=False):
        texts[row] = EDITS[edit](texts[original], texts[row], draw)

    dirty = list[int]()
    for kind, share in DIRT.items():
        for row in taken(share):
            other = texts[int(draw.integers(rows))]
            if kind == "personal_data":
                other = values[int(draw.integers(len(values)))][int(draw.integers(VALUES_PER_KIND))]
            texts[row] = SOILERS[kind](texts[row], other, draw)
            sources[row] = {"markup": "web", "e_mail": "mail"}.get(kind, "tickets")
            dirty.append(start + row)

    at = pl.int_range(start, start + rows, eager=True)
    records = pl.DataFrame(
        {
            "text": pl.Series(texts, dtype=pl.String),
            "source": pl.Series(sources, dtype=pl.String),
            "label": pl.Series(draw.choice(["negative", "neutral", "positive"], size=rows), dtype=pl.String),
        }
    ).with_columns(id=pl.format("{}:{}", "source", at), origin=pl.format("{}.csv:{}", "source", at + 1))
    shift = pl.lit(start, pl.Int64)
    pairs = pl.DataFrame(
        {"original": whose, "copy": copies[: len(whose)], "edit": edits[: len(whose)]},
        schema={"original": pl.Int64, "copy": pl.Int64, "edit": pl.String},
    ).with_columns(pl.col("original") + shift, pl.col("copy") + shift)
    return records.match_to_schema(RECORDS_SCHEMA, missing_columns="insert"), Truth(pairs, dirty)


def _recombined(rows: int, pieces: pl.Series, draw: np.random.Generator) -> pl.Series:
    """Texts of three to `MOST_FRAGMENTS` fragments."""
    chosen = draw.integers(len(pieces), size=(MOST_FRAGMENTS, rows))
    count = draw.integers(3, MOST_FRAGMENTS + 1, size=rows)
    columns = [
        pl.select(pl.when(pl.Series(count > place)).then(pieces.gather(chosen[place]))).to_series().alias(str(place))
        for place in range(MOST_FRAGMENTS)
    ]
    return pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()


def _with_words(edit: Callable[[list[str], list[str], np.random.Generator], None]) -> Callable[..., str]:
    """An edit of a list of words, in place, as one of a text."""

    def edited(text: str, other: str, draw: np.random.Generator) -> str:
        words = text.split(" ")
        edit(words, other.split(" "), draw)
        return " ".join(words)

    return edited


def _change(words: list[str], others: list[str], draw: np.random.Generator) -> None:
    words[int(draw.integers(len(words)))] = others[int(draw.integers(len(others)))]


def _change_several(words: list[str], others: list[str], draw: np.random.Generator) -> None:
    for _ in range(4):
        _change(words, others, draw)


def _add(words: list[str], others: list[str], draw: np.random.Generator) -> None:
    words.insert(int(draw.integers(len(words) + 1)), others[int(draw.integers(len(others)))])


def _drop(words: list[str], others: list[str], draw: np.random.Generator) -> None:
    del words[int(draw.integers(len(words)))]


def _append(words: list[str], others: list[str], draw: np.random.Generator) -> None:
    words.append(others[0])


def _mistype(text: str, other: str, draw: np.random.Generator) -> str:
    at = int(draw.integers(len(text)))
    return text[:at] + text[at + 1 :]


def _case(text: str, other: str, draw: np.random.Generator) -> str:
    return text.upper() if draw.random() < 0.5 else text.title()


def _punctuate(text: str, other: str, draw: np.random.Generator) -> str:
    return text.replace(",", " -") + ("!!!", " ...", "?!")[int(draw.integers(3))]


Edit = Callable[[str, str, np.random.Generator], str]
"""From a text, another to take words from, and a generator to the edited text."""

EDITS: dict[str, Edit] = {
    "case": _case,
    "punctuation": _punctuate,
    "word_appended": _with_words(_append),
    "word_added": _with_words(_add),
    "word_dropped": _with_words(_drop),
    "word_changed": _with_words(_change),
    "letter_dropped": _mistype,
    "words_changed": _with_words(_change_several),
}
SHARE_OF_EDITS = dict(zip(EDITS, (0.1, 0.1, 0.1, 0.15, 0.15, 0.2, 0.1, 0.1), strict=True))


def _inserted(text: str, value: str, draw: np.random.Generator) -> str:
    words = text.split(" ")
    words.insert(int(draw.integers(len(words) + 1)), value)
    return " ".join(words)


def _one_of(kind: str, draw: np.random.Generator) -> str:
    return str(TEXTS[kind][int(draw.integers(len(TEXTS[kind])))])


def _markup(text: str, other: str, draw: np.random.Generator) -> str:
    words = text.replace("&", "&amp;").replace("<", "&lt;").split(" ")
    middle = len(words) // 2
    return _one_of("markup", draw).format(head=" ".join(words[:middle]), tail=" ".join(words[middle:]))


def _mojibake(text: str, other: str, draw: np.random.Generator) -> str:
    garbled = _one_of("mojibake", draw).encode().decode("cp1252", errors="ignore")
    return _inserted(text, garbled, draw)


def _invisible(text: str, other: str, draw: np.random.Generator) -> str:
    at = int(draw.integers(len(text) + 1))
    return text[:at] + _one_of("invisible", draw) + text[at:]


def _e_mail(text: str, other: str, draw: np.random.Generator) -> str:
    name = _one_of("names", draw)
    day, hour = int(draw.integers(1, 29)), int(draw.integers(8, 18))
    return str(TEXTS["e_mail"].format(text=text, name=name, day=day, hour=hour, other=other))


SOILERS: dict[str, Edit] = {"markup": _markup, "mojibake": _mojibake, "invisible": _invisible, "e_mail": _e_mail}
SOILERS["personal_data"] = _inserted
