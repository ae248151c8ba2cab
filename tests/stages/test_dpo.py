from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.language_models.checkpoint import load_causal_lm
from assay.reinforcement.policy import require_finite_losses
from stages import dpo
from tests.policy_workspace import COMPUTE, CPU, bytes_below, change, write_models, write_pairs

SETTINGS: dict[str, Any] = {
    "init": "lora",
    "loss_type": "sigmoid",
    "beta": 0.1,
    "label_smoothing": 0.0,
    "max_steps": 12,
    "batch_size": 8,
    "gradient_accumulation_steps": 2,
    "learning_rate": 0.01,
    "warmup_fraction": 0.1,
    "max_grad_norm": 1.0,
    "max_length_tokens": 200,
    "gradient_checkpointing": False,
    "held_out_pairs": 16,
    "bootstrap_samples": 100,
}

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def workspace(tmp_path: Path, tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pairs, models and params, laid out as the pipeline does; the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"seed": 3, "compute": COMPUTE, "dpo": SETTINGS}))
    write_pairs(Path("data/preferences/train.parquet"), 40, "faq")
    write_pairs(Path("data/preferences/held_out.parquet"), 20, "held")
    write_models(tiny_chat_model)
    return tmp_path


@pytest.mark.parametrize("init", ["lora", "full"])
def test_a_policy_learns_to_prefer_and_stays_of_its_kind(
    workspace: Path, init: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change("dpo", init=init, learning_rate={"lora": 0.01, "full": 0.001}[init])
    dpo.main()
    metrics = read_json("metrics/optional/dpo.json")
    assert (metrics["pairs_train"], metrics["pairs"]) == (40, 16)
    # Untrained, the loss is that of a coin.
    assert metrics["train_loss_first"] == pytest.approx(np.log(2), abs=1e-4)
    assert metrics["train_loss_last"] < 0.5
    assert metrics["accuracy"] == 1
    assert metrics["margin"] > 0.5
    assert metrics["margin_ci95_low"] <= metrics["margin"] <= metrics["margin_ci95_high"]
    assert metrics["margin"] == pytest.approx(metrics["chosen_reward"] - metrics["rejected_reward"], abs=2e-6)
    assert metrics["likelihood_accuracy_after"] == 1
    assert sum(of_source["pairs"] for of_source in metrics["by_source"].values()) == 16
    steps = pl.read_csv("metrics/plots/dpo/steps.csv")
    assert steps.columns == ["step", *dpo.COLUMNS.values()]
    assert steps["step"].to_list() == list(range(1, 13))
    assert steps.null_count().sum_horizontal().item() == 0

    assert not Path("models/dpo/ref").exists()
    assert not Path("scratch/dpo").exists()
    out = capfd.readouterr()
    assert "{'" not in out.out
    assert "reference log probs" not in out.err
    assert Path("models/dpo/adapter_config.json").is_file() == (init == "lora")


def test_what_is_saved_is_what_was_measured(workspace: Path) -> None:
    dpo.main()
    metrics = read_json("metrics/optional/dpo.json")
    sides = {}
    for folder in ("models/sft/lora", "models/dpo"):
        model, tokenizer = load_causal_lm(Path(folder), CPU)
        pairs = dpo.pairs_that_fit(pl.read_parquet(dpo.HELD_OUT), tokenizer, 200, dpo.HELD_OUT)
        drawn = dpo.drawn(pairs, 16, 3)
        sides[folder] = dpo.likelihoods(model, drawn, 0, 8, Device(CPU, torch.float32), "pairs")
    before, after = sides["models/sft/lora"], sides["models/dpo"]
    margins = 0.1 * ((after.chosen - before.chosen) - (after.rejected - before.rejected))
    assert metrics["margin"] == pytest.approx(margins.mean(), abs=1e-4)


def test_the_same_seed_gives_the_same_bytes(workspace: Path) -> None:
    change("dpo", max_steps=3)
    dpo.main()
    first = bytes_below("models/dpo", "metrics/plots/dpo")
    dpo.main()
    assert bytes_below("models/dpo", "metrics/plots/dpo") == first


@pytest.mark.parametrize("loss_type", ["sigmoid_norm", "ipo", "robust", "apo_zero"])
def test_other_losses_run(workspace: Path, loss_type: str) -> None:
    change("dpo", loss_type=loss_type, max_steps=2, label_smoothing=0.1)
    dpo.main()
    assert read_json("metrics/optional/dpo.json")["steps"] == 2


def test_metrics_of_pairs_by_hand() -> None:
    before = dpo.Likelihoods(
        np.array([-10.0, -10.0, -9.0]), np.array([-12.0, -6.0, -9.0]), np.array([5, 5, 3]), np.array([4, 3, 3])
    )
    after = dpo.Likelihoods(
        np.array([-8.0, -10.0, -9.0]), np.array([-14.0, -7.0, -8.0]), np.array([5, 5, 3]), np.array([4, 3, 3])
    )
    metrics = dpo.pair_metrics(
        before, after, 0.5, ["a", "b", "b"], ["p", "p", "q"], 100, np.random.default_rng(0)
    )  # fmt: skip
    # Margins 0.5 (2 + 2) = 2, 0.5 (0 + 1) = 0.5 and 0.5 (0 - 1) = -0.5.
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["margin"] == pytest.approx(2 / 3)
    # A token: before -2 > -3, -2 = -2, -3 = -3; after -1.6 > -3.5, -2 > -2.33, -3 < -2.67.
    assert metrics["likelihood_accuracy_before"] == pytest.approx(1 / 3)
    assert metrics["likelihood_accuracy_after"] == pytest.approx(2 / 3)
    by_source = metrics["by_source"]
    assert isinstance(by_source, dict)
    assert by_source["a"] == {"pairs": 1, "accuracy": 1.0, "margin": 2.0}
    assert by_source["b"]["accuracy"] == 0.5


def test_pairs_that_are_too_long_are_left_out_and_counted(workspace: Path) -> None:
    change("dpo", max_length_tokens=80, max_steps=1)
    dpo.main()
    metrics = read_json("metrics/optional/dpo.json")
    assert metrics["pairs_train_too_long"] > 0
    assert metrics["pairs_train"] == 8
    change("dpo", max_length_tokens=5)
    with pytest.raises(InputError, match=r"none of 40 pairs fits 5 tokens; raise `dpo\.max_length_tokens`"):
        dpo.main()


def test_too_few_pairs_for_a_batch_are_an_error(workspace: Path) -> None:
    change("dpo", batch_size=64)
    with pytest.raises(InputError, match=r"40 pairs fit, fewer than `dpo\.batch_size` = 64"):
        dpo.main()


def test_a_loss_that_is_no_number_is_an_error() -> None:
    with pytest.raises(InputError, match=r"dpo: the loss of step \d+ is .*lower `dpo\.learning_rate`"):
        require_finite_losses(
            pl.DataFrame({"step": [1, 2], "loss": [0.7, float("nan")], "learning_rate": [0.1, 0.1]}), "dpo"
        )


def test_an_init_that_was_left_out_is_left_out_here_too(workspace: Path) -> None:
    change("dpo", init="qlora")
    dpo.main()
    assert Path("models/dpo/left_out.txt").read_text() == "no 4-bit arithmetic here\n"
    assert read_json("metrics/optional/dpo.json") == {"left_out": "no 4-bit arithmetic here"}
    assert pl.read_csv("metrics/plots/dpo/steps.csv").columns == ["step", *dpo.COLUMNS.values()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_policy_is_trained_on_cuda(workspace: Path) -> None:
    change("compute", device="cuda", precision="auto")
    dpo.main()
    assert read_json("metrics/optional/dpo.json")["device"] == "cuda"
