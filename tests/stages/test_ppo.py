from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.params import load_params
from assay.language_models.checkpoint import load_causal_lm
from stages import ppo
from tests.policy_workspace import COMPUTE, CPU, bytes_below, change, write_chats, write_models

SETTINGS: dict[str, Any] = {
    "init": "lora",
    "min_reward_accuracy": 0.8,
    "steps": 2,
    "prompts_per_step": 6,
    "epochs_per_step": 2,
    "minibatch_size": 3,
    "batch_size": 4,
    "max_prompt_tokens": 100,
    "max_new_tokens": 6,
    "temperature": 1.0,
    "learning_rate": 0.01,
    "value_learning_rate": 0.01,
    "max_grad_norm": 1.0,
    "clip_range": 0.2,
    "value_clip_range": 0.2,
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "entropy_coefficient": 0.0,
    "missing_eos_penalty": 1.0,
    "initial_kl_coefficient": 0.05,
    "target_kl": 4.0,
    "kl_gain": 0.1,
    "max_kl": 20.0,
    "held_out_prompts": 7,
    "bootstrap_samples": 100,
}


@pytest.fixture
def workspace(tmp_path: Path, tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Chats, models and params, laid out as the pipeline does; the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"seed": 3, "compute": COMPUTE, "ppo": SETTINGS}))
    write_chats(Path("data/instruct/train.parquet"), 30, "faq")
    write_chats(Path("data/instruct/validation.parquet"), 18, "held")
    write_models(tiny_chat_model)
    return tmp_path


@pytest.mark.parametrize("init", ["lora", "full"])
def test_a_policy_is_trained_and_stays_of_its_kind(workspace: Path, init: str) -> None:
    change("ppo", init=init)
    ppo.main()
    metrics = read_json("metrics/optional/ppo.json")
    assert metrics["steps"] == 2
    assert metrics["kl_ran_away_at_step"] == 0
    assert metrics["reward_model_accuracy"] == 0.83
    # A third of the chats are labels; every other prompt is short enough, and seven of twelve are drawn.
    assert (metrics["prompts"], metrics["prompts_too_long"], metrics["held_out_prompts"]) == (20, 0, 7)
    assert metrics["reward_difference"] == pytest.approx(metrics["reward_after"] - metrics["reward_before"], abs=2e-6)
    assert (
        metrics["reward_difference_ci95_low"] <= metrics["reward_difference"] <= metrics["reward_difference_ci95_high"]
    )
    assert metrics["kl_to_reference_k3"] > 0
    steps = pl.read_csv("metrics/plots/ppo/steps.csv")
    assert steps["step"].to_list() == [1, 2]
    assert steps["beta"][0] == 0.05

    assert Path("models/ppo/value_head.safetensors").is_file()
    assert Path("models/ppo/adapter_config.json").is_file() == (init == "lora")
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.inference_mode():
        logits = [load_causal_lm(Path(f), CPU)[0](input_ids=ids).logits for f in ("models/ppo", f"models/sft/{init}")]
    assert not torch.allclose(*logits)


def test_the_same_seed_gives_the_same_bytes(workspace: Path) -> None:
    ppo.main()
    first = bytes_below("models/ppo", "metrics/plots/ppo")
    ppo.main()
    assert bytes_below("models/ppo", "metrics/plots/ppo") == first


def test_training_goes_on_from_what_was_trained(workspace: Path) -> None:
    ppo.main()
    Path("models/ppo").rename("models/sft/ppo")
    change("ppo", init="ppo", steps=1)
    ppo.main()
    # The value head is the one that was there.
    assert pl.read_csv("metrics/plots/ppo/steps.csv")["explained_variance"].is_not_null().all()
    assert not Path("models/ppo/ref").exists()


def test_nothing_starts_with_a_reward_model_that_is_too_often_wrong(workspace: Path) -> None:
    write_json("metrics/optional/reward.json", {"accuracy": 0.61})
    with pytest.raises(InputError, match=r"metrics/reward\.json: .*0\.610 .*`ppo\.min_reward_accuracy` asks for 0\.8"):
        ppo.main()
    assert not Path("models/ppo").exists()


def test_prompts_that_are_too_long_are_left_out_and_counted(workspace: Path) -> None:
    # Three bytes of a prompt are one token each at least; those with a system message are longest.
    change("ppo", max_prompt_tokens=60)
    ppo.main()
    metrics = read_json("metrics/optional/ppo.json")
    assert metrics["prompts_too_long"] > 0
    assert metrics["prompts"] + metrics["prompts_too_long"] == 20
    change("ppo", max_prompt_tokens=3)
    with pytest.raises(InputError, match=r"of 20 prompts none has at most 3 tokens; raise `max_prompt_tokens`"):
        ppo.main()


def test_an_init_that_was_left_out_is_left_out_here_too(workspace: Path) -> None:
    change("ppo", init="qlora")
    ppo.main()
    assert Path("models/ppo/left_out.txt").read_text() == "no 4-bit arithmetic here\n"
    assert read_json("metrics/optional/ppo.json") == {"left_out": "no 4-bit arithmetic here"}
    assert pl.read_csv("metrics/plots/ppo/steps.csv").columns[:2] == ["step", "reward"]


def test_an_init_that_is_not_there_is_an_error(workspace: Path) -> None:
    change("ppo", init="nothing")
    with pytest.raises(InputError, match="models/sft/nothing: no model there"):
        ppo.main()


@pytest.mark.parametrize(
    ("key", "value"), [("clip_range", 1.0), ("target_kl", 0.0), ("steps", 0), ("learning_rate", "1e-5")]
)
def test_params_have_bounds(workspace: Path, key: str, value: Any) -> None:
    change("ppo", **{key: value})
    with pytest.raises(InputError, match=rf"`ppo\.{key}` = "):
        load_params("ppo", ppo.PpoParams)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_policy_is_trained_on_cuda(workspace: Path) -> None:
    change("compute", device="cuda", precision="auto")
    ppo.main()
    assert read_json("metrics/optional/ppo.json")["device"] == "cuda"
