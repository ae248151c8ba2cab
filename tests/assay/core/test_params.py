from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params, Pattern, load_params


class Training(Params):
    learning_rate: float = Field(gt=0, le=1)
    epochs: int


class Other(Params):
    method: Literal["other"]
    rank: int


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


def test_a_number_that_yaml_reads_as_text_is_rejected_with_the_spelling_that_works(tmp_path: Path) -> None:
    seen = message(tmp_path, "train: {learning_rate: 2e-5, epochs: 4}")
    assert "`train.learning_rate` = '2e-5'" in seen
    assert "write 2.0e-5" in seen


def test_an_unknown_key_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    seen = message(tmp_path, "train: {learning_rate: 0.1, epochs: 4, epoch: 5}")
    assert "`train.epoch` = 5 is not a known key; did you mean `epochs`?" in seen


def test_a_key_of_an_earlier_version_is_told_its_new_name(tmp_path: Path) -> None:
    seen = message(tmp_path, "train: {learning_rate: 0.1, epochs: 4, l2_strength: 3.0}")
    assert "`train.l2_strength` = 3.0 is not a known key; it is now called `C`" in seen


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "`train.epochs` is missing" in message(tmp_path, "train: {learning_rate: 0.1}")


def test_a_value_out_of_bounds_says_what_is_allowed(tmp_path: Path) -> None:
    seen = message(tmp_path, "train: {learning_rate: 1.5, epochs: 4}")
    assert "`train.learning_rate` = 1.5" in seen
    assert "less than or equal to 1" in seen


@pytest.mark.parametrize("value", ["true", "'4'", "4.5", "null"])
def test_types_are_strict(tmp_path: Path, value: str) -> None:
    assert "`train.epochs`" in message(tmp_path, f"train: {{learning_rate: 0.1, epochs: {value}}}")


def test_a_missing_section_lists_those_there(tmp_path: Path) -> None:
    assert "section `train` is missing; `" in message(tmp_path, "seed: 1")


def test_a_key_of_another_method_is_an_error(tmp_path: Path) -> None:
    union = Annotated[Other | Probe, Field(discriminator="method")]
    seen = message(tmp_path, "train: {method: probe, rank: 8}", model=union)
    assert "rank` = 8 is not a known key" in seen


def test_no_file_and_no_yaml_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_params("train", Training, tmp_path / "absent.yaml")
    assert "not valid YAML" in message(tmp_path, "train: [1, 2")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=x)y", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "backreferences are not supported"),
        ("(", "unclosed group"),
        ("a{1,99999}{1,9999}", "exceeds size limit"),
    ],
)
def test_a_pattern_that_polars_cannot_use_is_named_with_the_reason(tmp_path: Path, pattern: str, reason: str) -> None:
    seen = message(tmp_path, f"train: ['{pattern}']", model=list[Pattern])
    assert repr(pattern) in seen
    assert reason in seen
    path = tmp_path / "params.yaml"
    path.write_text("train: ['(a+)+$']")
    assert load_params("train", list[Pattern], path) == ["(a+)+$"]
