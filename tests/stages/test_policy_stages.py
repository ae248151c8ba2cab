"""What holds for every stage that trains a policy further."""

import importlib
from pathlib import Path

import polars as pl
import pytest
import torch

from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from tests.policy_workspace import bytes_below, change, write_workspace

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
COSTS = {"train_seconds", "seconds_per_step", "peak_memory_mib"}
every_stage = pytest.mark.parametrize("stage", ["dpo", "rloo", "ppo"])
by_reward = pytest.mark.parametrize("stage", ["rloo", "ppo"])


@pytest.fixture(autouse=True)
def workspace(stage: str, tiny_chat_model: Path) -> None:
    write_workspace(stage, tiny_chat_model)


def run(stage: str) -> None:
    importlib.import_module(f"stages.{stage}").main()


@pytest.mark.slow
@every_stage
def test_the_same_seed_gives_the_same_bytes_and_clocks_are_apart(stage: str) -> None:
    if stage == "dpo":
        change("dpo", max_steps=3)
    written = []
    for _ in range(2):
        run(stage)
        written.append(bytes_below(f"models/{stage}", f"metrics/plots/{stage}", f"metrics/optional/{stage}.json"))
    assert written[0] == written[1]
    cost = read_json(f"metrics/cost/{stage}.json")
    assert set(cost) == COSTS
    assert all(value > 0 for value in cost.values())


@every_stage
def test_a_skipped_init_is_skipped_here_too(stage: str) -> None:
    change(stage, init="qlora")
    run(stage)
    assert Path(f"models/{stage}/left_out.txt").read_text() == "no 4-bit arithmetic here\n"
    for kind in ("optional", "cost"):
        assert read_json(f"metrics/{kind}/{stage}.json")["left_out"] == "no 4-bit arithmetic here"
    columns = pl.read_csv(f"metrics/plots/{stage}/steps.csv").columns
    assert columns[:2] == ["step", "reward" if stage == "ppo" else "loss"]


@by_reward
def test_nothing_starts_with_a_reward_model_that_is_too_often_wrong(stage: str) -> None:
    write_json("metrics/optional/reward.json", {"accuracy": 0.61})
    asks = rf"metrics/optional/reward\.json: .*0\.610 .*`{stage}\.min_reward_accuracy` asks for 0\.8"
    with pytest.raises(InputError, match=asks):
        run(stage)
    assert not Path(f"models/{stage}").exists()


@by_reward
def test_an_answer_that_the_model_has_no_positions_for_is_an_error_before_training(stage: str) -> None:
    change(stage, max_new_tokens=1000)
    asked = rf"`{stage}\.max_prompt_tokens` = 100 and `{stage}\.max_new_tokens` = 1000 takes 1100 positions, .* 1024 "
    with pytest.raises(InputError, match=asked):
        run(stage)


@by_reward
def test_without_a_reward_model_the_list_that_needs_an_entry_is_named(stage: str) -> None:
    Path("metrics/optional/reward.json").unlink()
    with pytest.raises(InputError, match=rf"set `optional\.reward` .* or `optional\.{stage}` to \[\]"):
        run(stage)


@every_stage
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_policy_is_trained_on_cuda(stage: str) -> None:
    change("compute", device="cuda", precision="bfloat16")
    run(stage)
    assert read_json(f"metrics/optional/{stage}.json")["device"] == "cuda"
