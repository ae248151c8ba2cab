import io
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.language_models.chat_template import MESSAGES
from tests.own_cases import read_cases
from tests.own_process import run_main
from tests.policy_workspace import COMPUTE, write_models
from tests.template_params import read_template_params
from tools import ask

CASES = read_cases(__file__)

ANSWERS = ["The roof takes ten days.", "The permit takes ten weeks.", "The invoice comes in May."]


@pytest.fixture(autouse=True)
def workspace(repository: Path, tiny_chat_model: Path, tiny_encoder: Path) -> None:
    write_models(tiny_chat_model)
    rows = [
        {"id": f"faq:{number}", "group": f"faq:{number}", "task": "answer", "question": f"What of it, {number}?"}
        | {"answer": answer, "messages": []}
        for number, answer in enumerate(ANSWERS)
    ]
    ask.TRAIN.parent.mkdir(parents=True)
    pl.DataFrame(rows, schema_overrides={"messages": MESSAGES}).write_parquet(ask.TRAIN)
    committed = read_template_params()
    params: dict[str, Any] = {
        "compute": COMPUTE,
        "embed": {"model": str(tiny_encoder), "max_length_tokens": 64, "batch_size": 8, "last_layers": 1},
        "instruct_data": committed["instruct_data"],
        "decoding": committed["decoding"] | {"max_new_tokens": 6},
        "language_model": "models/sft/full",
        "template_arguments": {},
        "generation_models": {"base": "models/base", "dpo": "models/dpo"},
    }
    params["instruct_data"]["context"]["passages"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run(*arguments: str, typed: bytes = b"") -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
        run_main(ask, *arguments)


def test_one_question_is_answered_from_the_best_passage(capsys: pytest.CaptureFixture[str]) -> None:
    run("sft@lora", "--question", ANSWERS[1])
    captured = capsys.readouterr()
    assert len(captured.out) > 1  # more than the end of the line: the tiny model says little but white space
    assert "(passages shown: faq:1)" in captured.err


def test_an_answer_that_is_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run("base", "--question", "Why?", "--max-new-tokens", "2")
    assert '(cut at 2 tokens; ARGS="--max-new-tokens 8" lets it go on)' in capsys.readouterr().err


def test_no_passages_where_none_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    ask.TRAIN.unlink()
    run("base", "--no-context", "--question", "How long does the permit take?")
    captured = capsys.readouterr()
    assert len(captured.out) > 1  # more than the end of the line: the tiny model says little but white space
    assert "passages" not in captured.err


def test_a_conversation_keeps_what_was_said_until_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def answer(model: Any, tokenizer: Any, messages: Any, decoding: Any, device: Any) -> str:
        seen.append([message["content"].rsplit("Question: ", 1)[-1] for message in messages])
        return f"answer {len(seen)}"

    monkeypatch.setattr(ask, "streamed", answer)
    run("base", typed=b"What of the roof?\n\nAnd the permit?\n/new\nThe invoice?\n/quit\nnever\n")
    assert seen == [["What of the roof?"], ["What of the roof?", "answer 1", "And the permit?"], ["The invoice?"]]


def test_what_is_typed_and_not_utf8_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^standard input is not UTF-8 \(byte 0xf9\); convert it"):
        run("base", typed="Où?\n".encode("latin-1"))
    # In the locale C, and on the command line, Python takes such a byte for half of a letter.
    with pytest.raises(InputError, match=r"^the question is not UTF-8 \(byte 0xf9\); convert it"):
        run("base", "--question", "O\udcf9?")


def test_the_same_answer_in_a_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    run("sft@lora", "--question", "Why?")
    said = capsys.readouterr().out
    run("sft@lora", typed=b"Why?\n")
    assert capsys.readouterr().out == said
    assert len(said) > 1


@pytest.mark.parametrize(("arguments", "message"), CASES["bad_input"])
def test_bad_input(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(*arguments)


def test_train_rows_that_are_not_there() -> None:
    ask.TRAIN.unlink()
    with pytest.raises(InputError, match=r"data/instruct/train.parquet: no such file; run `dvc repro instruct_data`"):
        run("base", "--question", "Why?")
