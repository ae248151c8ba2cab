from pathlib import Path

import polars as pl
import pytest

from assay.core.errors import InputError
from assay.core.outputs import read_json
from stages import ppo
from tests.policy_workspace import change, require_trained, write_workspace


@pytest.fixture(autouse=True)
def workspace(tiny_chat_model: Path) -> None:
    write_workspace("ppo", tiny_chat_model)


@pytest.mark.parametrize("init", ["lora", "full"])
def test_a_policy_is_trained_and_stays_of_its_kind(init: str) -> None:
    change("ppo", init=init)
    ppo.main()
    metrics = read_json("metrics/optional/ppo.json")
    assert metrics["steps"] == 2
    assert metrics["kl_ran_away_at_step"] == 0
    assert metrics["reward_model_accuracy"] == 0.83
    # A third of the chats are labels; every other prompt is short enough, and seven of twelve are drawn.
    assert (metrics["prompts"], metrics["prompts_too_long"], metrics["held_out_prompts"]) == (20, 0, 7)
    assert metrics["reward_difference"] == pytest.approx(metrics["reward_after"] - metrics["reward_before"], abs=2e-6)
    steps = pl.read_csv("metrics/plots/ppo/steps.csv")
    assert steps["step"].to_list() == [1, 2]
    assert steps["beta"][0] == 0.05

    require_trained("ppo", init)


def test_training_goes_on_from_what_was_trained() -> None:
    ppo.main()
    Path("models/ppo").rename("models/sft/ppo")
    change("ppo", init="ppo", steps=1)
    ppo.main()
    assert not Path("models/ppo/ref").exists()


def test_prompts_that_are_too_long_are_skipped_and_counted() -> None:
    # Three bytes of a prompt are one token each at least; those with a system message are longest.
    change("ppo", max_prompt_tokens=60)
    ppo.main()
    metrics = read_json("metrics/optional/ppo.json")
    assert metrics["prompts_too_long"] > 0
    assert metrics["prompts"] + metrics["prompts_too_long"] == 20
    change("ppo", max_prompt_tokens=3)
    with pytest.raises(InputError, match=r"of 20 prompts none has at most 3 tokens; raise `max_prompt_tokens`"):
        ppo.main()


def test_an_init_that_is_not_there_is_an_error() -> None:
    change("ppo", init="nothing")
    with pytest.raises(InputError, match="models/sft/nothing: no model there"):
        ppo.main()
