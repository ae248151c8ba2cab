from pathlib import Path

import polars as pl
import pytest
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from assay.cleaning.rules import CleanParams
from assay.core.errors import InputError
from assay.core.params import load_params
from tests.own_cases import read_cases
from tests.own_process import run_main
from tests.template_params import read_template_params
from tools.changes import why

CASES = read_cases(__file__)

SOURCE = {"source_url": "https://example.org/a", "licence": "MIT", "retrieved": "2026-11-22", "authenticity": "real"}
SOURCE["source_sha256"] = "5d7c"


def write(path: Path, **columns: object) -> None:
    pl.DataFrame({name: [value] for name, value in columns.items()}).write_parquet(path, mkdir=True)


def test_a_row_is_followed_through_the_stages(tmp_path: Path) -> None:
    row = {"id": "a:1", "text": "Good &amp; bad", "label": "x", "reference_label": "y", "origin": "a.csv:2"}
    write(tmp_path / "ingested/records.parquet", **row, **SOURCE)
    change = {"before": "Good &amp; bad", "after": "Good & bad"}
    write(tmp_path / "clean/changed.parquet", id="a:1", rule="html_to_text", **change)
    write(tmp_path / "split/train.parquet", id="a:1")
    found = {"is_label_error": True, "label_quality": 0.02, "suggested_label": "y"}
    write(tmp_path / "label_errors/scores.parquet", id="a:1", **found)
    write(tmp_path / "label_errors/removed.parquet", id="a:1", rule="label_error", before="Good & bad", after=None)
    example = {"text": "Great", "label": "x", "parent_id": "b:1", "recipe": "synonym"}
    write(tmp_path / "augmented/train.parquet", id="b:1~synonym", **example)
    assert list(why.history("a:1", tmp_path)) == [
        "ingest: read from a.csv:2, label 'x', reference 'y'",
        "  'Good &amp; bad'",
        "  from https://example.org/a, licence MIT, retrieved 2026-11-22, real, SHA-256 5d7c",
        "clean: changed by html_to_text",
        "  'Good &amp; bad'",
        "  'Good & bad'",
        "split: train",
        "label_errors: a label error (quality 0.020, suggested 'y')",
        "label_errors: removed by label_error",
    ]
    assert list(why.history("b:1", tmp_path)) == ["augment: augmented example b:1~synonym", "  'Great'"]
    assert list(why.history("b:1~synonym", tmp_path)) == ["augment: trains, made of b:1 by synonym, with label 'x'"]


def write_group(folder: Path, kept: list[str]) -> None:
    records = {"id": kept, "semantic_group": ["a:1" if one.startswith("a") else one for one in kept]}
    pl.DataFrame(records).write_parquet(folder / "records.parquet", mkdir=True)
    pairs = {"semantic_group": ["a:1", "a:1"], "cosine": [0.9876, 0.95], "id": ["a:2", "a:1"]}
    texts = {"text": ["Great", "Good"], "other_id": ["a:3", "a:2"], "other_text": ["So great", "Great"]}
    pl.DataFrame(pairs | texts).write_parquet(folder / "pairs.parquet")


def test_rows_that_say_the_same_are_named_with_the_closest_of_them(tmp_path: Path) -> None:
    write_group(tmp_path / "semantic_duplicates", ["a:1", "a:2", "a:3", "b:1"])
    assert list(why.history("a:2", tmp_path)) == [
        "semantic_duplicates: in group a:1 with a:1, a:3",
        "  cosine 0.988 to a:3 'So great'",
        "  cosine 0.950 to a:1 'Good'",
    ]
    assert list(why.history("b:1", tmp_path)) == []


def test_what_a_person_decided_is_told(tmp_path: Path) -> None:
    who = {"reason": "irony", "reviewer": "Ann", "date": "2026-11-23", "line": 4}
    folder = tmp_path / "corrected"
    write(folder / "changed.parquet", id="a", rule="relabel", before="bad", after="good", **who)
    write(folder / "removed.parquet", id="a", rule="correction", before="text", after=None, **who)
    assert list(why.history("a", tmp_path)) == [
        "correct: label 'bad' → 'good' by Ann on 2026-11-23, line 4: irony",
        "corrected: removed by correction by Ann on 2026-11-23, line 4: irony",
    ]
    who["reason"] = ""
    write(folder / "changed.parquet", id="b", rule="confirm_reference_label", before="bad", after="bad", **who)
    assert list(why.history("b", tmp_path)) == ["correct: reference label 'bad' confirmed by Ann on 2026-11-23, line 4"]


def test_an_unknown_id_names_those_near_it() -> None:
    error = why.unknown_id("tweets:42", pl.Series(["amazon:1", "tweets:41", "tweets:7"]))
    assert isinstance(error, InputError)
    assert "no row has the id 'tweets:42'; there are tweets:41, tweets:7" in str(error)


def test_it_says_so_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data/split/test.parquet", id="c:1")
    run_main(why, "c:1")
    assert capsys.readouterr().out == "c:1\nsplit: test\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    params = read_template_params()
    params["clean"]["max_tokens"]["tokenizer"] = "tokenizer.json"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save("tokenizer.json")
    return tmp_path / "data"


def test_groups_split_label_predictions_and_chats_are_told_with_their_reasons(project: Path) -> None:
    write(project / "clean/duplicate_groups.parquet", id="a:1", near_duplicate_group="a:9", labels_differ=True)
    write(project / "split/test.parquet", id="a:1", split_group="review=7")
    scores = {"id": "a:1", "label": "bad", "is_label_error": False, "label_quality": 0.9, "suggested_label": "bad"}
    write(project / "label_errors/scores.parquet", **scores, probability_bad=0.75, probability_good=0.25)
    said = {"id": "a:1", "confidence": 0.6, "target_label": "bad", "probability_bad": 0.4}
    for name, label in (("predictions", "good"), ("validation", "bad")):
        write(project / f"predictions/lora/{name}.parquet", **said, predicted_label=label)
    chat = {"task": "label", "category": "a", "question": "Which?", "answer": "bad", "context": ["one", "two"]}
    write(project / "instruct/train.parquet", id="a:1#unanswerable", **chat)
    write(project / "generations/base/answers.parquet", id="a:1", mode="label", answer="good")
    assert why.history("a:1", project) == [
        "clean: near-duplicate, in group a:9, and labels differ",
        "split: test",
        "  the hash of its group 'review=7' is 0.0616, which is train, moved to test: its label is small or its group"
        " large (metrics/split.json)",
        "label_errors: no label error (quality 0.900, suggested 'bad')",
        "  given 'bad'; probability out of fold: 'bad' 0.750, 'good' 0.250",
        "evaluate@lora: 'good' with confidence 0.60, wrong; target 'bad' 0.40",
        "evaluate@lora, validation: 'bad' with confidence 0.60, right; target 'bad' 0.40",
        "instruct_data: a:1#unanswerable in train, task label, category a, with 2 passages",
        *("  'Which?'", "  'bad'"),
        "evaluate_generation@base, label: 'good'",
    ]


@pytest.mark.parametrize(("text", "row_id", "said"), CASES["a_text_is_found_as_read_as_cleaned_or_by_similarity"])
def test_a_text_is_found_as_read_as_cleaned_or_by_similarity(project: Path, text: str, row_id: str, said: str) -> None:
    write(project / "ingested/records.parquet", id="a:1", text="Fish &amp; chips, cheap")
    write(project / "clean/records.parquet", id="a:1", text="Fish & chips, cheap")
    write(project / "instruct/train.parquet", id="faq:7", question="How long does it take?")
    params = load_params("clean", CleanParams)
    found, shown = why.find_text(text, params, project)
    assert (found, said in "\n".join(shown)) == (row_id, True)
    with pytest.raises(InputError, match="no text has anything in common with '12345678'"):
        why.find_text("12345678", params, project)
