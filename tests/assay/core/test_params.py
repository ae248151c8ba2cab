import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params, Pattern, load_params
from tests.own_cases import read_cases

CASES = read_cases(__file__)

WRONG = yaml.safe_load(Path(__file__).with_name("wrong_params.yaml").read_text(encoding="utf-8"))


class Training(Params):
    learning_rate: float = Field(gt=0, le=1)
    epochs: int


class Probe(Params):
    method: Literal["probe"]


def message(tmp_path: Path, text: str, section: str = "train", model: Any = Training) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_params(section, model, path)
    return str(caught.value)


def test_reads_a_section(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 3\ntrain: {learning_rate: 2.0e-5, epochs: 4}\n")
    assert load_params("train", Training, path) == Training(learning_rate=2e-5, epochs=4)
    assert load_params("seed", int, path) == 3


@pytest.mark.parametrize(("keys", "says"), CASES["what_is_wrong_is_named_with_the_fix"])
def test_what_is_wrong_is_named_with_the_fix(tmp_path: Path, keys: str, says: list[str]) -> None:
    seen = message(tmp_path, f"train: {{{keys}}}")
    assert [text for text in says if text not in seen] == []


@pytest.mark.parametrize("value", ["true", "'4'", "4.5", "null"])
def test_types_are_strict(tmp_path: Path, value: str) -> None:
    assert "`train.epochs`" in message(tmp_path, f"train: {{learning_rate: 0.1, epochs: {value}}}")


def test_a_missing_section_lists_those_there(tmp_path: Path) -> None:
    assert "section `train` is missing; `" in message(tmp_path, "seed: 1")


class Trained(Params):
    batch_size: int = Field(ge=1)
    dropout: float


class Lora(Trained):
    method: Literal["lora"]
    rank: int


class Full(Trained):
    method: Literal["full"]


Approach: Any = Annotated[Lora | Full | Probe, Field(discriminator="method")]
BLOCKS = """\
train:
  defaults: {batch_size: 32, dropout: 0.1}
  lora: {method: lora, rank: 4, dropout: 0.5}
  full: {method: full}
  probe: {method: probe}
seed: 3
"""


def test_a_block_takes_from_the_defaults_what_it_does_not_give(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(BLOCKS)
    assert load_params("train.lora", Approach, path) == Lora(method="lora", rank=4, batch_size=32, dropout=0.5)
    assert load_params("train.full", Approach, path) == Full(method="full", batch_size=32, dropout=0.1)
    # Of one class instead of the union too.
    assert load_params("train.full", Full, path) == Full(method="full", batch_size=32, dropout=0.1)
    # It has a field for none of them.
    assert load_params("train.probe", Approach, path) == Probe(method="probe")


class Nested(Params):
    b: dict[str, int]
    d: dict[str, int]


def test_defaults_are_shallow_and_of_one_level(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: {defaults: {b: {x: 1, y: 2}}, c: {b: {x: 3}, d: {e: 1}}}")
    assert load_params("a.c", Nested, path) == Nested(b={"x": 3}, d={"e": 1})
    assert load_params("a.c.d", dict[str, int], path) == {"e": 1}


@pytest.mark.parametrize(("old", "new", "block", "says"), WRONG["blocks"])
def test_a_wrong_value_is_named_where_it_was_read(tmp_path: Path, old: str, new: str, block: str, says: str) -> None:
    assert says in message(tmp_path, BLOCKS.replace(old, new, 1), f"train.{block}", Approach)


class OfUnions(Params):
    rules: dict[str, bool | list[str]]
    column: Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)]
    parts: list[Approach]
    full: Full | None


@pytest.mark.parametrize(("old", "new", "says"), WRONG["unions"])
def test_an_error_of_a_union_is_one_line_without_its_branches(tmp_path: Path, old: str, new: str, says: str) -> None:
    lora = "{method: lora, rank: 4, batch_size: 1, dropout: 0.1}"
    text = f"train: {{rules: {{x: true}}, column: c, parts: [{lora}], full: null}}"
    assert message(tmp_path, text.replace(old, new), model=OfUnions) == f"{tmp_path / 'params.yaml'}: {says}"


def test_no_file_and_no_yaml_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_params("train", Training, tmp_path / "absent.yaml")
    assert "not valid YAML" in message(tmp_path, "train: [1, 2")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]\n" for level in range(1, 64))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"seed: 1\ntrain: {a: \xe9}", "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"train: {}\nseed: 1\ntrain: {}", "line 3: the key 'train' stands twice in its mapping; take one out"),
        (b"train:\n  epochs: 1\n  epochs: 2", "line 3: the key 'epochs' stands twice in its mapping; take one out"),
        (b"train: {yes: 1}", "line 1: the key 'yes' is no text in YAML; put it in quotes"),
        (BOMB.encode(), "its aliases unfold to more than 100,000 values; write out some of them"),
        (b"train: &a [*a]", "its aliases unfold to more than 100,000 values; write out some of them"),
        (b"train: " + b"[" * 100_000, "line 1: nested more than 50 deep; write it flatter"),
        (b"train: !!python/name:os.getcwd", "not valid YAML: could not determine a constructor for the tag"),
        (b"train: [1,\n2", "at line 1, column 8 did not find expected ',' or ']' at line 3, column 1; mend it there"),
        (b"train: {learning_rate: .nan, epochs: 1}", "`train.learning_rate` = nan: Input should be a finite number"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_yaml_lets_pass_or_chokes_on_is_one_line(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: .*{re.escape(says)}.*\Z"):
        load_params("train", Training, path)


def test_aliases_and_merges_that_unfold_to_little_are_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: &a {learning_rate: 0.1, epochs: 1}\ntrain: {<<: *a, epochs: 2}")
    assert load_params("train", Training, path) == Training(learning_rate=0.1, epochs=2)


@pytest.mark.parametrize("value", ["true", "1.0", ".nan", "'1'"])
def test_a_section_that_is_a_number_is_strict_too(tmp_path: Path, value: str) -> None:
    assert message(tmp_path, f"seed: {value}", "seed", int).endswith("Input should be a valid integer")


@pytest.mark.parametrize(("pattern", "reason"), CASES["a_pattern_that_polars_cannot_use_is_named_with_the_reason"])
def test_a_pattern_that_polars_cannot_use_is_named_with_the_reason(tmp_path: Path, pattern: str, reason: str) -> None:
    seen = message(tmp_path, f"train: ['{pattern}']", model=list[Pattern])
    assert repr(pattern) in seen
    assert reason in seen
    path = tmp_path / "params.yaml"
    path.write_text("train: ['(a+)+$']")
    assert load_params("train", list[Pattern], path) == ["(a+)+$"]


class Columns(Params):
    text: str
    label: str | None


class Source(Params):
    header: bool
    columns: Columns
    ratings: dict[str, str] | None


class Sources(Params):
    sources: list[Source]


DEFAULTS_OF_SOURCES = "header: true, columns: {label: null}, ratings: null"


def test_sources_take_what_they_do_not_give_from_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    given = "{columns: {text: a}}, {header: false, columns: {text: b, label: c}, ratings: {file: d}}"
    path.write_text(f"ingest: {{source_defaults: {{{DEFAULTS_OF_SOURCES}}}, sources: [{given}]}}")
    first, second = load_params("ingest", Sources, path).sources
    assert first == Source(header=True, columns=Columns(text="a", label=None), ratings=None)
    assert second == Source(header=False, columns=Columns(text="b", label="c"), ratings={"file": "d"})


@pytest.mark.parametrize(("defaults", "source", "says"), WRONG["sources"])
def test_a_wrong_key_of_sources_is_named_where_it_was_read(
    tmp_path: Path, defaults: str, source: str, says: str
) -> None:
    text = (
        f"ingest: {{source_defaults: {{{defaults}}}, sources: [{{{source}}}, {{header: false, columns: {{text: a}}}}]}}"
    )
    seen = message(tmp_path, text, "ingest", Sources)
    assert says in seen
    assert seen.count(says) == 1


def test_defaults_of_sources_are_a_mapping(tmp_path: Path) -> None:
    text = "ingest: {source_defaults: [1], sources: []}"
    assert "`ingest.source_defaults` = [1]: a mapping" in message(tmp_path, text, "ingest", Sources)
