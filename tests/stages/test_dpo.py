from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.language_models.checkpoint import load_causal_lm
from assay.preference_data.likelihood import sample_pairs, score_pairs, tokenise_pairs
from stages import dpo
from tests.policy_workspace import CPU, change, write_workspace

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(autouse=True)
def workspace(tiny_chat_model: Path) -> None:
    write_workspace("dpo", tiny_chat_model)


@pytest.mark.parametrize("init", ["lora", "full"])
def test_a_policy_learns_to_prefer_and_stays_of_its_kind(init: str, capfd: pytest.CaptureFixture[str]) -> None:
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


def test_what_is_saved_is_what_was_measured() -> None:
    dpo.main()
    metrics = read_json("metrics/optional/dpo.json")
    sides = {}
    for folder in ("models/sft/lora", "models/dpo"):
        model, tokenizer = load_causal_lm(Path(folder), CPU)
        pairs = tokenise_pairs(pl.read_parquet(dpo.HELD_OUT), tokenizer, 200, dpo.HELD_OUT)
        sampled = sample_pairs(pairs, 16, (3, "dpo"))
        sides[folder] = score_pairs(model, sampled, 0, 8, Device(CPU, torch.float32), "pairs")
    before, after = sides["models/sft/lora"], sides["models/dpo"]
    margins = 0.1 * ((after.chosen - before.chosen) - (after.rejected - before.rejected))
    assert metrics["margin"] == pytest.approx(margins.mean(), abs=1e-4)


@pytest.mark.parametrize("loss_type", ["sigmoid_norm", "ipo", "robust", "apo_zero"])
def test_other_losses_run(loss_type: str) -> None:
    change("dpo", loss_type=loss_type, max_steps=2, label_smoothing=0.1)
    dpo.main()
    assert read_json("metrics/optional/dpo.json")["steps"] == 2


def test_pairs_that_are_too_long_are_skipped_and_counted() -> None:
    change("dpo", max_length_tokens=80, max_steps=1)
    pairs = pl.read_parquet(dpo.TRAIN)
    one = pl.when(pl.int_range(pl.len()) == 2).then(pl.lit("<|im_end|>")).otherwise("chosen")
    pairs.with_columns(chosen=one).write_parquet(dpo.TRAIN)
    dpo.main()
    metrics = read_json("metrics/optional/dpo.json")
    assert metrics["pairs_train_too_long"] > 0
    assert metrics["pairs_train_with_special_token"] == 1
    assert metrics["pairs_train"] == 8
    change("dpo", max_length_tokens=5)
    with pytest.raises(InputError, match=r"none of 40 pairs fits 5 tokens; raise `dpo\.max_length_tokens`"):
        dpo.main()


def test_too_few_pairs_for_a_batch_are_an_error() -> None:
    change("dpo", batch_size=64)
    with pytest.raises(InputError, match=r"40 pairs fit, fewer than `dpo\.batch_size` = 64"):
        dpo.main()
