"""Redact names of people and places, with a model that finds them, by Presidio.

Nothing in the form of a name tells that it is one, so this takes a model for named entities, and what the model misses
stays: it is no promise, and far slower than the rules. Presidio is an optional extra. The model is a folder on disk, of
spaCy's or of transformers' making, or an installed spaCy package. Nothing is downloaded.

`<PERSON>` stands for a person, `<LOCATION>` for a place, a building, or an address. (Not `<ADDRESS>`: that is an
element of HTML, and the rule that removes markup would take it for one.)
"""

import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from assay.core.errors import InputError
from assay.core.placeholders import PLACEHOLDER, placeholders

KIND_OF_LABEL = {
    **dict.fromkeys(("PERSON", "PER", "PERSON_NAME", "NAME", "PATIENT", "STAFF"), "PERSON"),
    **dict.fromkeys(("GPE", "LOC", "FAC", "LOCATION", "ADDRESS", "STREET", "STREET_ADDRESS", "CITY"), "LOCATION"),
}
"""From the labels that models use to the kinds of placeholders; other labels are not redacted."""
INSTALL = "install the extra with `pip install .[names]`, or turn the rule off"
BATCH_ROWS = 128


def redact_names(text: pl.Expr, *, model: str, language: str, numbered: bool) -> pl.Expr:
    """Replace the names in texts; each process loads the model once. `language` is such as `en`."""

    def redacted(texts: pl.Series) -> pl.Series:
        return name_redactor(model, language, numbered)(texts)

    return text.map_batches(redacted, return_dtype=pl.String, is_elementwise=True)


@cache
def name_redactor(model: str, language: str, numbered: bool) -> Callable[[pl.Series], pl.Series]:
    """A function that redacts the names in texts. Raises `InputError`: a package or the model is missing."""
    missing = [name for name in ("presidio_analyzer", "spacy") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"params.yaml: `clean.rules.redact_names` needs {' and '.join(missing)}, not installed; {INSTALL}"
        )
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    kinds = sorted(set(KIND_OF_LABEL.values()))
    engine = _engine(model, language)
    recognizer = SpacyRecognizer(supported_language=language, supported_entities=kinds)
    registry = RecognizerRegistry(recognizers=[recognizer], supported_languages=[language])
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
    lock = Lock()  # spaCy's vocabulary grows as it reads

    def redact(texts: pl.Series) -> pl.Series:
        present = texts.is_not_null().arg_true()
        values = texts.gather(present).to_list()
        redacted = []
        with lock:
            for text, artifacts in zip(values, engine.process_batch(values, language, BATCH_ROWS), strict=True):
                found = analyzer.analyze(text, language, entities=kinds, nlp_artifacts=artifacts[1])
                redacted.append(_replaced(text, [(one.start, one.end, one.entity_type) for one in found], numbered))
        return texts.clone().scatter(present, pl.Series(redacted, dtype=pl.String))

    return redact


def _engine(model: str, language: str) -> Any:
    """Presidio's engine around the model; loaded here, because Presidio would download what is not there."""
    import spacy
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine, TransformersNlpEngine
    from presidio_analyzer.nlp_engine.huggingface_token_pipe import FACTORY_NAME

    labels = NerModelConfiguration(model_to_presidio_entity_mapping=KIND_OF_LABEL, labels_to_ignore=[])
    folder = Path(model)
    of_spacy = (folder / "meta.json").is_file() or spacy.util.is_package(model)
    if not of_spacy and not (folder / "config.json").is_file():
        raise InputError(
            f"params.yaml: `clean.names.model` = {model!r}: neither an installed spaCy package nor a folder with a "
            "model of spaCy (meta.json) or transformers (config.json); nothing is downloaded, so put one there"
        )
    try:
        if of_spacy:
            engine = SpacyNlpEngine([{"lang_code": language, "model_name": model}], labels)
            pipeline = spacy.load(model)
        else:
            engine = TransformersNlpEngine([{"lang_code": language, "model_name": {}}], labels)
            pipeline = spacy.blank(language)
            pipeline.add_pipe(FACTORY_NAME, config={"model": model, "spans_key": engine.entity_key})
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"params.yaml: `clean.names.model` = {model!r}: it cannot be loaded ({error})") from error
    engine.nlp = {language: pipeline}
    return engine


def _replaced(text: str, found: list[tuple[int, int, str]], numbered: bool) -> str:
    """A text with placeholders for what was found, but for what touches a placeholder that it has already."""
    taken = [match.span() for match in re.finditer(PLACEHOLDER, text)]
    name_of = {kind: placeholders(text, kind, numbered) for _, _, kind in found}
    pieces, at = [], 0
    for start, end, kind in sorted(found, key=lambda one: (one[0], -one[1])):
        if start < at or any(start < last and first < end for first, last in taken):
            continue
        pieces += [text[at:start], name_of[kind](" ".join(text[start:end].casefold().split()))]
        at = end
    return "".join([*pieces, text[at:]])
