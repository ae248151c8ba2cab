from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from assay.core.outputs import read_json
from assay.language_models.chat_template import Message
from assay.reinforcement import held_out
from assay.reinforcement.policy_stage import TRAIN
from stages import rloo
from tests.policy_workspace import change, require_trained, write_workspace

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def workspace(tiny_chat_model: Path) -> None:
    write_workspace("rloo", tiny_chat_model)


@pytest.mark.parametrize("init", ["lora", "full"])
def test_a_policy_is_trained_and_stays_of_its_kind(
    workspace: None, init: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change("rloo", init=init)
    table = pl.read_parquet(TRAIN).to_dicts()
    table[0]["messages"][-2]["content"] += "<|im_end|>"
    pl.DataFrame(table).write_parquet(TRAIN)
    rloo.main()
    metrics = read_json("metrics/optional/rloo.json")
    assert metrics["steps"] == 3
    assert (metrics["prompts"], metrics["prompts_with_special_token"]) == (19, 1)
    assert (metrics["prompts_too_long"], metrics["held_out_prompts"]) == (0, 7)
    steps = pl.read_csv("metrics/plots/rloo/steps.csv")
    assert steps["step"].to_list() == [1, 2, 3]
    assert steps.null_count().sum_horizontal().item() == 0
    assert steps["kl_per_token"][0] == pytest.approx(0, abs=1e-5)

    # TRL's copy of the adapter is not kept, and neither is its scratch folder; it prints no dictionaries.
    assert not Path("models/rloo/ref").exists()
    assert not Path("scratch/rloo").exists()
    assert "{'" not in capfd.readouterr().out
    require_trained("rloo", init)


def test_an_easy_reward_is_raised(workspace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def share_of_lower_case(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
        assert len(chats) == len(answers)
        return np.array([sum(letter.isascii() and letter.islower() for letter in text) / 6 for text in answers])

    monkeypatch.setattr(held_out, "reward_function", lambda *_: share_of_lower_case)
    change("rloo", init="full", max_steps=30, batch_size=32, learning_rate=0.006, beta=0.0, missing_eos_penalty=0.0)
    rloo.main()
    steps = pl.read_csv("metrics/plots/rloo/steps.csv")
    first, last = steps["score"][:5].to_numpy(), steps["score"][-5:].to_numpy()
    assert last.mean() > first.mean() + 0.2


def test_the_reward_function_is_the_models_less_the_penalty() -> None:
    seen = []

    def score(chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> NDArray[np.float64]:
        seen.append((chats, answers))
        return np.array([2.0, 3.0])

    function = rloo.penalise_unended(score, [2], 0.5)
    prompts = [[{"role": "user", "content": "a"}]] * 2
    completions = [[{"role": "assistant", "content": " b "}], [{"role": "assistant", "content": "c"}]]
    actual = function(prompts=prompts, completions=completions, completion_ids=[[5, 2], [5, 6]], trainer_state=None)
    assert actual == [2.0, 2.5]
    assert seen == [(prompts, ["b", "c"])]
