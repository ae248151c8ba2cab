from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.fine_tuning.params import Full
from tests.mini_wordnet import write_mini_wordnet
from tests.own_process import run_main
from tests.stages.test_augment import PARAMS, rows, write_inputs
from tests.stages.test_finetune import BLOCKS
from tools.experiments import augment_ablation
from tools.experiments.augment_ablation import AblationParams, compared, epochs_of, recipes_of

ABLATION: dict[str, Any] = {
    "arms": ["none", "synonym", "all"],
    "recipes": [
        {"name": "synonym", "share_of_rows": 1.0, "share_of_words": 0.2},
        {"name": "reorder", "share_of_rows": 1.0},
    ],
    "train_shares": [1.0, 0.5],
    "seeds": [0, 1],
    "C": 1.0,
    "min_steps": 5,
    "bootstrap_samples": 100,
}


@pytest.fixture
def workspace(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("encoder").symlink_to(tiny_encoder)
    write_mini_wordnet(Path("wordnet"))
    params = yaml.safe_load(PARAMS)
    full = BLOCKS["full"] | {"model": str(tiny_encoder), "max_epochs": 2}
    params |= {"finetune": {"full": full}, "augment_ablation": ABLATION}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    write_inputs(rows(0, 60), rows(100, 10), rows(200, 20))
    return tmp_path


def test_cells_are_run_and_compared(workspace: Path) -> None:
    with pytest.raises(InputError, match="no cells to compare; run `make ablation`"):
        run_main(augment_ablation)
    for arm in ("none", "all"):
        run_main(augment_ablation, arm, "0.5")
    none, every = (read_json(f"data/augment_ablation/{arm}_0.5.json") for arm in ("none", "all"))
    assert none["rows"] == none["rows_original"] == every["rows_original"] == pytest.approx(30, abs=10)
    assert every["rows"] > none["rows"]
    assert every["epochs_of_full"] <= none["epochs_of_full"]
    assert [len(predicted) for predicted in every["predicted"]["full"]] == [20, 20]
    run_main(augment_ablation)
    metrics = read_json("metrics/augment_ablation.json")
    for model in ("probe", "full"):
        assert list(metrics[model]) == ["0.5"]
        assert list(metrics[model]["0.5"]) == ["none", "all"]
        effect = metrics[model]["0.5"]["all"]
        assert effect["effect_ci95_low"] <= effect["effect"] <= effect["effect_ci95_high"]
        difference = effect["macro_f1"] - metrics[model]["0.5"]["none"]["macro_f1"]
        assert effect["effect"] == pytest.approx(difference, abs=2e-6)
        assert "effect" not in metrics[model]["0.5"]["none"]


def test_the_same_cell_again(workspace: Path) -> None:
    cells = []
    for _ in range(2):
        run_main(augment_ablation, "synonym", "0.5")
        cells.append((workspace / "data/augment_ablation/synonym_0.5.json").read_bytes())
    assert cells[0] == cells[1]


def test_effects_are_paired() -> None:
    test = pl.DataFrame({"target": ["a", "b"] * 50})
    right = [["a", "b"] * 50] * 2
    wrong = [["b", "b"] * 50] * 2
    cells: list[dict[str, Any]] = [
        {"arm": arm, "share": 1.0, "rows": 10, "predicted": {"probe": said, "full": wrong}}
        for arm, said in (("none", wrong), ("synonym", right))
    ]
    found = compared(cells, test, AblationParams(**ABLATION), 1)
    full, probe = (found[model]["1.0"]["synonym"] for model in ("full", "probe"))
    assert full["effect"] == full["effect_ci95_low"] == full["effect_ci95_high"] == 0
    assert probe["effect"] == pytest.approx(1 - 1 / 3)
    assert probe["macro_f1_ci95_low"] == 1


def test_arms_and_epochs() -> None:
    params = AblationParams(**ABLATION)
    assert recipes_of("none", params) == []
    assert [recipe.name for recipe in recipes_of("all", params)] == ["synonym", "reorder"]
    assert [recipe.name for recipe in recipes_of("reorder", params)] == ["reorder"]
    with pytest.raises(InputError, match="no recipe 'eda'; there are none, all, synonym, reorder"):
        recipes_of("eda", params)
    full = Full(**BLOCKS["full"] | {"model": "m", "max_epochs": 3, "batch_size": 10})
    assert epochs_of(full, 1000, 1000, 5) == 3
    assert epochs_of(full, 1000, 1500, 5) == 2
    assert epochs_of(full, 20, 20, 100) == 50
    assert epochs_of(full, 20, 2000, 100) == 1
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        AblationParams(**ABLATION | {"train_shares": [1.5]})


def test_a_probe_draws_examples_with_their_sources() -> None:
    table = pl.DataFrame(
        {
            "id": ["a", "b", "a~x"], "label": ["p", "n", "p"], "parent_id": [None, None, "a"],
            "label_weight": [1.0, 1.0, 1.0],
        }
    )  # fmt: skip
    features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]], dtype=np.float32)
    for seed in range(20):
        random = np.random.default_rng(seed)
        drawn = np.random.default_rng(seed).multinomial(2, [0.5, 0.5])
        if drawn.min() == 0:
            continue
        said = augment_ablation.probe_predictions(table, features, features[:2], ["n", "p"], 100.0, random)
        assert said == ["p", "n"]
