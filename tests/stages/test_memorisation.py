from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pydantic import TypeAdapter

from assay.cleaning.rules import CleanParams
from assay.core.errors import InputError
from assay.core.outputs import read_json
from stages import memorisation
from tests.own_process import run_main
from tests.stages.test_sft import APPROACHES, chats
from tests.template_params import read_template_params

SMALL: dict[str, Any] = {"repetitions": [1, 2], "canaries": 2, "candidates": 15, "chats": 12, "batch_size": 4}


def measure(model: Path, approach: str = "full", own: dict[str, Any] = SMALL, **changes: Any) -> dict[str, Any]:
    for path, count in ((memorisation.TRAIN, 40), (memorisation.VALIDATION, 12)):
        chats(count).with_columns(source=pl.lit("faq")).write_parquet(path, mkdir=True)
    params = read_template_params()
    params |= {"language_model": str(model), "sft": {approach: APPROACHES[approach] | changes}, "memorisation": own}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    run_main(memorisation, approach)
    measured: dict[str, Any] = read_json(memorisation.METRICS / f"{approach}.json")
    return measured


def test_a_canary_is_redacted_and_seen_as_often_as_it_is_planted(tiny_chat_model: Path) -> None:
    measured = measure(tiny_chat_model, packing=False, batch_size=4)
    assert (measured["canaries"], measured["not_redacted"]) == (4, 0)
    written, redacted = (measured["models"][name] for name in ("as_written", "redacted"))
    # One epoch to the token. 6 and 12 chats are no 4 whole batches, so two are left out.
    assert (written["epochs"], written["planted"], written["chats"], written["steps"]) == (1.0, 6, 16, 4)
    assert written["tokens"] > redacted["tokens"]


def test_packs_are_one_epoch_too(tiny_chat_model: Path) -> None:
    models = measure(tiny_chat_model, "lora", packing=True)["models"]
    assert [models[name]["epochs"] for name in ("as_written", "redacted")] == [1.0, 1.0]


def test_rules_that_are_off_leave_canaries_as_they_are() -> None:
    clean = TypeAdapter(CleanParams).validate_python(read_template_params()["clean"])
    text = "The email address of Ada Abel is raba.fotel42@example.com"
    assert memorisation.redact([text, "No. 7"], clean, "faq") == ["The email address of Ada Abel is <EMAIL>", "No. 7"]
    off = clean.model_copy(update={"rules": clean.rules | {"redact_email": ["tweets"]}})
    assert memorisation.redact([text], off, "faq") == [text] != memorisation.redact([text], off, "tweets")


def test_canaries_that_fill_no_batch_are_an_error(tiny_chat_model: Path) -> None:
    with pytest.raises(InputError, match=r"canaries do not fit; raise `memorisation.chats` or `max_length_tokens`"):
        measure(tiny_chat_model, own=SMALL | {"chats": 1}, packing=False, batch_size=4)


def test_an_approach_that_cannot_run_is_skipped(tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorisation, "why_no_4_bit", lambda device: "no arithmetic")
    assert measure(tiny_chat_model, "qlora")["left_out"] == "no arithmetic"


@pytest.mark.slow
def test_exposure_rises_with_repetition_and_not_with_redaction(tiny_chat_model: Path) -> None:
    own = {"repetitions": [1, 4, 16], "canaries": 6, "candidates": 127, "chats": 20, "batch_size": 9}
    measured = measure(tiny_chat_model, own=own, packing=False, batch_size=1, learning_rate=0.01)
    chance, models = measured["chance_exposure"], measured["models"]
    base, written, redacted = ([one["exposure"] for one in model["repeated"].values()] for model in models.values())
    assert written[0] < written[1] < written[2]
    assert models["as_written"]["rise_p"] < 0.001
    assert models["as_written"]["repeated"]["4"]["exposure_ci95_low"] > chance
    # Of a uniform rank an exposure has a standard deviation of about log2 e, so the mean of 18 one of 0.34.
    for never_seen in (base, redacted):
        assert sum(never_seen) / 3 == pytest.approx(chance, abs=1.0)
        assert max(never_seen) < written[1]
