from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from scipy.stats import binomtest

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.language_models.chat_template import add_answers
from assay.preference_data.pairs import PAIRS_SCHEMA
from assay.reward.evaluation import Margins, estimate_accuracy, measure_length_bias, score_sides
from assay.reward.model import load_reward_model, new_reward_model, score_answers
from assay.reward.training import RewardLora, RewardParams, add_lora, order_pairs
from assay.statistics.metrics_dict import Estimate
from stages import reward
from tests.policy_workspace import bytes_below
from tests.template_params import sections

CPU = Device(torch.device("cpu"), torch.float32)
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "last_layers": 1}


def params(model: Path, **changed: Any) -> dict[str, Any]:
    weights = dict.fromkeys(("human", "sibling_answer", "base_answer", "altered_answer"), 1.0)
    small: dict[str, Any] = {"layers": None, "lora": LORA, "max_steps": 40, "batch_size": 8, "learning_rate": 0.01}
    small |= {"source_weights": weights, "max_length_tokens": 200, "weight_decay": 0.0, "evaluation_batch_size": 8}
    small |= {"bootstrap_samples": 200}
    return sections(seed=1, compute={}, language_model=str(model), reward=small | changed, template_arguments={})


def pairs(count: int, start: int = 0) -> pl.DataFrame:
    """Pairs whose better answer ends with an exclamation mark, the worse one with a question mark."""
    rows = []
    for number in range(start, start + count):
        source, detail = [("sibling_answer", "other_category faq:1"), ("altered_answer", "number: 1 → 2")][number % 2]
        messages = [{"role": "user", "content": f"What of {number}"}]
        chosen = f"It is {number}!" + " Yes!" * (number % 3)
        rejected = f"It is {number + 1}?" + " No?" * (number % 2)
        rows.append((f"p{number}", f"faq:{number}", "roof", source, messages, chosen, rejected, detail))
    return pl.DataFrame(rows, PAIRS_SCHEMA, orient="row")


def project(values: dict[str, Any], train: pl.DataFrame, held_out: pl.DataFrame) -> None:
    train.write_parquet("data/preferences/train.parquet", mkdir=True)
    held_out.write_parquet("data/preferences/held_out.parquet")
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.mark.parametrize("lora", [LORA, None])
def test_it_learns_what_is_preferred_and_loads_again_with_the_same_rewards(
    tiny_chat_model: Path, lora: dict[str, Any] | None
) -> None:
    held_out = pairs(20, 100)
    project(params(tiny_chat_model, lora=lora), pairs(60), held_out)
    reward.main()
    metrics = read_json(reward.METRICS)
    assert metrics["accuracy"] >= 0.9
    assert metrics["accuracy_ci95_low"] < metrics["accuracy"] <= metrics["accuracy_ci95_high"]
    assert metrics["steps"] == 40
    assert set(metrics["by_source"]) == {"altered_answer", "sibling_answer"}
    assert metrics["by_source"]["altered_answer"]["pairs"] == 10
    assert metrics["train_by_source"] == {"altered_answer": 160, "sibling_answer": 160}
    margin = metrics["mean_reward_chosen"] - metrics["mean_reward_rejected"]
    assert margin == pytest.approx(metrics["mean_margin"], abs=1e-5)
    steps = pl.read_csv("metrics/plots/reward/steps.csv")
    assert steps.height == 40
    assert steps["loss"].tail(10).mean() < steps["loss"].head(10).mean()  # type: ignore[operator]
    assert not Path("scratch/reward").exists()

    model, tokenizer = load_reward_model(Path("models/reward/model"), CPU.device)
    chosen = score_answers(model, tokenizer, add_answers(held_out["messages"], held_out["chosen"]), 4, CPU, None)
    rejected = score_answers(model, tokenizer, add_answers(held_out["messages"], held_out["rejected"]), 4, CPU, None)
    assert float((chosen - rejected).mean()) == pytest.approx(metrics["mean_margin"], abs=1e-4)


def test_the_same_seed_gives_the_same_bytes(tiny_chat_model: Path) -> None:
    project(params(tiny_chat_model, max_steps=3), pairs(20), pairs(6, 100))
    reward.main()
    paths = "models/reward/model", "metrics/plots", "metrics/optional"
    first = bytes_below(*paths)
    reward.main()
    assert bytes_below(*paths) == first
    costs = {"train_seconds", "tokens_per_second", "evaluation_seconds", "peak_memory_mib"}
    assert set(read_json(reward.COST)) == costs


def test_pairs_that_are_too_long_are_skipped_and_counted(tiny_chat_model: Path) -> None:
    long = pairs(2, 50).with_columns(chosen=pl.lit("x" * 300 + "!"))
    project(params(tiny_chat_model, max_steps=2), pl.concat([pairs(10), long]), pairs(6, 100))
    reward.main()
    metrics = read_json(reward.METRICS)
    assert (metrics["rows_train"], metrics["rows_train_too_long"]) == (12, 2)
    values = params(tiny_chat_model, max_length_tokens=8)
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"the shortest pair has \d+ tokens; raise `reward.max_length_tokens` \(8\)"):
        reward.main()


def test_no_pairs_is_an_error(tiny_chat_model: Path) -> None:
    project(params(tiny_chat_model), pairs(4), pairs(0))
    with pytest.raises(InputError, match=r"held_out\.parquet: no pairs"):
        reward.main()


def test_only_the_last_layers_and_the_head_are_trained(tiny_chat_model: Path) -> None:
    model, _ = new_reward_model(str(tiny_chat_model), CPU.device)
    model = add_lora(model, RewardLora.model_validate(LORA))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name in trained if "lora" not in name] == ["base_model.model.score.modules_to_save.default.weight"]
    assert all(".layers.1." in name for name in trained if "lora" in name)
    assert {name.split(".")[-4] for name in trained if "lora" in name} == {"q_proj", "v_proj"}
    untouched, _ = new_reward_model(str(tiny_chat_model), CPU.device)
    every = add_lora(untouched, RewardLora.model_validate(LORA | {"last_layers": None}))
    assert any(".layers.0." in name for name, one in every.named_parameters() if one.requires_grad)


def test_the_upper_layers_are_removed(tiny_chat_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project(params(tiny_chat_model, layers=1), pairs(60), pairs(20))
    reward.main()
    model, tokenizer = load_reward_model(Path("models/reward/model"), CPU.device)
    assert len(model.get_base_model().model.layers) == 1
    held_out = pl.read_parquet("data/preferences/held_out.parquet")
    said = score_sides(model, tokenizer, held_out, 8, CPU)
    assert read_json(reward.METRICS)["mean_margin"] == pytest.approx(float(said.margin.mean()), abs=1e-5)
    assert "UNEXPECTED" not in capfd.readouterr().err
    with pytest.raises(InputError, match=r"`reward.layers` = 3, but .* has 2; null takes all"):
        new_reward_model(str(tiny_chat_model), CPU.device, 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"last_layers": 3}, "= 3, but the base has 2"), ({"target_modules": ["nose"]}, "target_modules")],
)
def test_layers_that_are_not_there_are_refused(tiny_chat_model: Path, changed: dict[str, Any], said: str) -> None:
    model, _ = new_reward_model(str(tiny_chat_model), CPU.device)
    with pytest.raises(InputError, match=said):
        add_lora(model, RewardLora.model_validate(LORA | changed))


def test_each_source_gets_its_share_and_goes_round() -> None:
    sources = ["human"] * 2 + ["sibling_answer"] * 90 + ["base_answer"] * 8
    weights = {"human": 1.0, "sibling_answer": 2.0, "base_answer": 0.0, "altered_answer": 5.0}
    lengths = np.arange(100)
    changed = params(Path(), source_weights=weights, max_steps=6, batch_size=5)["reward"]
    section = RewardParams.model_validate(changed)
    order = order_pairs(sources, lengths, section, np.random.default_rng(1), Path("train.parquet"))
    of_order = [sources[row] for row in order]
    assert (of_order.count("human"), of_order.count("sibling_answer"), len(of_order)) == (10, 20, 30)
    # Each pair comes as often as any other of its source, give or take one.
    assert np.bincount(order)[:2].tolist() == [5, 5]
    assert np.bincount(order)[2:].max() == 1
    again = order_pairs(sources, lengths, section, np.random.default_rng(1), Path("train.parquet"))
    assert order.tolist() == again.tolist()
    # Batches are of pairs of similar length.
    spread = np.mean([np.ptp(lengths[order[at : at + 5]]) for at in range(0, 30, 5)])
    assert spread < 40
    with pytest.raises(InputError, match=r"no weight to base_answer, which train\.parquet"):
        order_pairs(["base_answer"], lengths[:1], section, np.random.default_rng(1), Path("train.parquet"))


def test_an_accuracy_has_wilsons_interval_or_that_of_prompts() -> None:
    right = np.array([1.0] * 8 + [0.0] * 2)
    random = np.random.default_rng(0)
    prompts = [str(number) for number in range(10)]
    wilson = binomtest(8, 10).proportion_ci(method="wilson")
    by_prompt = estimate_accuracy(right, prompts, 100, random)
    assert (by_prompt.value, by_prompt.low, by_prompt.high) == pytest.approx((0.8, wilson.low, wilson.high))
    # 8 of 10, by hand (Wilson 1927): (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    assert wilson.low == pytest.approx(0.4902, abs=1e-4)
    # Two prompts, one all right, one all wrong: pairs of one prompt are not independent.
    clustered = np.array([1.0] * 5 + [0.0] * 5)
    assert estimate_accuracy(clustered, ["a"] * 5 + ["b"] * 5, 500, random) == Estimate(0.5, 0.0, 1.0)
    # Of one prompt there is no interval; a tie counts half.
    assert estimate_accuracy(np.array([1.0, 0.0]), ["a", "a"], 100, random) == Estimate(0.5, None, None)
    assert estimate_accuracy(np.array([0.5, 1.0]), ["a", "b"], 100, random).value == 0.75


def test_length_bias_by_hand() -> None:
    said = Margins(np.array([3.0, 1.0, 2.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    figures = measure_length_bias(said, np.array([9, 9, 1, 4]), np.array([3, 3, 7, 4]))
    # Longer: chosen (right), chosen (wrong), rejected (wrong, so the longer won); the last has equal lengths.
    assert figures["pairs_of_unequal_length"] == 3
    assert figures["longer_wins"] == pytest.approx(2 / 3)
    assert figures["longer_should_win"] == pytest.approx(2 / 3)
    equal = measure_length_bias(Margins(np.array([1.0]), np.array([1.0])), np.array([2]), np.array([2]))
    assert equal == {"pairs_of_unequal_length": 0.0}
