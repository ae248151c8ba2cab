import random
import socket
from pathlib import Path

import polars as pl
import pytest

from assay.core.errors import InputError
from assay.personal_data import person_names
from assay.personal_data.person_names import name_redactor

SENTENCES = [
    *("{person} wrote to us from {place}.", "I met {person} in {place} yesterday.", "My name is {person}."),
    *("Please send it to {person}, {place}.", "We live in {place}.", "Ask {person} about it."),
    *("The {place} office is closed.", "Thank you, {person}!"),
]
PERSONS = ["Anna Schmidt", "John Miller", "Maria Garcia", "Peter Jones", "Laura Rossi", "Paul Martin", "Emma Brown"]
PLACES = ["Berlin", "London", "Madrid", "Paris", "Oslo", "Rome", "Vienna"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of named entities, trained here in a few seconds."""
    pytest.importorskip("presidio_analyzer", reason="the optional extra `names` is not installed")
    spacy = pytest.importorskip("spacy", reason="the optional extra `names` is not installed")
    from spacy.training import Example

    spacy.util.fix_random_seed(0)
    draws = random.Random(0)
    pipeline = spacy.blank("en")
    recogniser = pipeline.add_pipe("ner")
    recogniser.add_label("PERSON")
    recogniser.add_label("GPE")
    examples = []
    for sentence in SENTENCES * 8:
        person, place = draws.choice(PERSONS), draws.choice(PLACES)
        text = sentence.format(person=person, place=place)
        spans = [
            (text.index(name), text.index(name) + len(name), label)
            for name, label in ((person, "PERSON"), (place, "GPE"))
            if name in text
        ]
        examples.append(Example.from_dict(pipeline.make_doc(text), {"entities": spans}))
    pipeline.initialize(lambda: examples)
    for _ in range(12):
        draws.shuffle(examples)
        for start in range(0, len(examples), 8):
            pipeline.update(examples[start : start + 8])
    folder = tmp_path_factory.mktemp("model")
    pipeline.to_disk(folder)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
def test_names_and_places_are_redacted(model: Path) -> None:
    texts = pl.Series("text", ["I met Anna Schmidt in Berlin yesterday.", None, "It works well, thanks.", ""])
    expected = ["I met <PERSON> in <LOCATION> yesterday.", None, "It works well, thanks.", ""]
    redact = name_redactor(str(model), "en", False)
    assert redact(texts).to_list() == expected
    assert redact(redact(texts)).to_list() == expected


@pytest.mark.usefixtures("offline")
def test_the_same_name_has_the_same_number(model: Path) -> None:
    texts = pl.Series(
        "text", ["I met Anna Schmidt in Berlin yesterday. Ask John Miller about it. Ask Anna Schmidt about it."]
    )
    redacted = name_redactor(str(model), "en", True)(texts)[0]
    assert redacted == ("I met <PERSON_1> in <LOCATION_1> yesterday. Ask <PERSON_2> about it. Ask <PERSON_1> about it.")


@pytest.mark.usefixtures("offline")
def test_placeholders_stay(model: Path) -> None:
    texts = pl.Series("text", ["Ask <PERSON_1> about it. I met <EMAIL> in Berlin yesterday."])
    assert name_redactor(str(model), "en", False)(texts)[0] == (
        "Ask <PERSON_1> about it. I met <EMAIL> in <LOCATION> yesterday."
    )


def test_no_rows(model: Path) -> None:
    assert name_redactor(str(model), "en", False)(pl.Series("text", [], dtype=pl.String)).to_list() == []


def test_a_folder_that_is_not_there_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clean\.names\.model.*nothing is downloaded"):
        name_redactor(str(tmp_path / "none"), "en", False)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(InputError, match=r"clean\.names\.model.*cannot be loaded"):
        name_redactor(str(tmp_path), "en", False)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"presidio_analyzer and spacy, not installed; .*pip install \.\[names\]"):
        name_redactor("anything", "en", False)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "Jo met Ann, jo left"),
        ([(0, 2, "PERSON"), (7, 10, "PERSON"), (12, 14, "PERSON")], "<PERSON_1> met <PERSON_2>, <PERSON_1> left"),
        ([(0, 10, "LOCATION"), (7, 10, "PERSON")], "<LOCATION_1>, jo left"),
    ],
)
def test_what_is_found_is_replaced(found: list[tuple[int, int, str]], expected: str) -> None:
    assert person_names._replaced("Jo met Ann, jo left", found, True) == expected
