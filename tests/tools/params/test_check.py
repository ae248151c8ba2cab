"""All problems of a params file are named at once, before anything runs."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from assay.core.params import load_params
from tests.own_params import change
from tests.template_params import read_template_params
from tools import doctor
from tools.params import check


@pytest.fixture
def params() -> dict[str, Any]:
    return read_template_params()


def write(params: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def test_the_committed_params_are_right_and_not_checked_twice(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".dvc").mkdir()
    write(params)
    check.check_params()
    monkeypatch.setattr(check, "find_problems", lambda path: [str(path)])
    check.check_params()
    write(params | {"seed": 1})
    with pytest.raises(InputError, match=r"1 problem\(s\)"):
        check.check_params()


REFUSED = yaml.safe_load(Path(__file__).with_name("refused.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("block", "settings", "expected"), REFUSED)
def test_what_a_section_does_not_take_is_named(
    params: dict[str, Any], block: str, settings: dict[str, Any], expected: str
) -> None:
    top = block.partition(".")[0]
    write({top: params[top]})
    change(block, **settings)
    with pytest.raises(InputError) as error:
        load_params(block if top == "sft" else top, resolve_name(check.SECTIONS[top]))
    assert expected in str(error.value)
    assert "planted" not in str(error.value)


def test_every_section_of_the_params_is_checked(params: dict[str, Any]) -> None:
    assert set(check.SECTIONS) == set(params)


def test_a_group_column_that_no_source_carries_is_a_problem_where_they_carry_others(params: dict[str, Any]) -> None:
    params["split"]["group_column"] = "reviews"
    write(params)
    with pytest.raises(
        InputError, match=r"`split.group_column` = 'reviews': the sources of `ingest` carry \['review'\]"
    ):
        check.check_params()
    for source in params["ingest"]["sources"]:
        source["carry"] = []
    write(params)
    check.check_params()


def test_all_problems_are_named_at_once(params: dict[str, Any]) -> None:
    params["clean"]["min_charcters"] = params["clean"].pop("min_characters")
    params["finetune"]["lora"]["rank"] = "16"
    params["sft"]["defaults"]["max_steps"] = 0
    params["approaches"].append("dora")
    params["finetune"]["lora.v2"] = params["finetune"]["lora"]
    params["generation_models"]["dpo 2"] = "models/dpo"
    params["instruct_data"]["sources"][0]["name"] = "faq.v2"
    params["clean"]["rules"]["strip_html"] = 3
    params["ingets"] = params.pop("ingest")
    write(params)
    with pytest.raises(InputError) as error:
        check.check_params()
    message = str(error.value)
    for problem in (
        "`clean.min_charcters` = 2 is not a known key; did you mean `min_characters`?",
        "`clean.min_characters` is missing",
        "`finetune.lora.rank` = '16'",
        "`sft.defaults.max_steps` = 0",
        "`finetune` has 'lora.v2': a name is of letters, digits, _ and -",
        "`generation_models` has 'dpo 2': a name is of letters",
        "`instruct_data.sources.0.name` = 'faq.v2': String should match pattern",
        "`clean.rules.strip_html` = 3: Input should be a valid boolean or a valid list",
        "`approaches` has 'dora', and there is no block `finetune.dora`",
        "`ingets` is no section; did you mean `ingest`?",
        "section `ingest` is missing",
    ):
        assert problem in message
    # A default stands once, however many blocks take it.
    assert message.count("sft.defaults.max_steps") == 1


def test_lists_that_need_each_other_are_checked_too(params: dict[str, Any]) -> None:
    params["optional"]["preferences"] = []
    write(params)
    with pytest.raises(InputError, match=r"`optional\.reward` needs `optional\.preferences: \[default\]`"):
        check.check_params()
    params["gate"]["approach"] = "xlora"
    write(params)
    with pytest.raises(InputError, match=r"2 problem.*\n.*`gate\.approach` = 'xlora' is not in `approaches`"):
        check.check_params()


def test_the_doctor_names_them(params: dict[str, Any]) -> None:
    write(params | {"seed": "x"})
    ((is_necessary, sentence),) = doctor.params_problems()
    assert is_necessary
    assert sentence.startswith("params.yaml: `seed` = 'x'")
    Path("params.yaml").write_text("a: [")
    ((_, sentence),) = doctor.params_problems()
    assert "not valid YAML" in sentence
