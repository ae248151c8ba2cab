"""Rows a second of our recipes beside TextAttack's own augmenters of the same kind.

The same rows of the default data, one output a row, the same share of words; TextAttack's augmenters as its recipes
build them, with scikit-learn's stop words. Both sides in one process, in turn; ours with two workers besides.

What is printed with the benchmark (`extra_info`) is the measurement; times are not asserted.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from assay.augmentation.apply import augment_in_process
from assay.augmentation.recipes import CharacterNoise, Synonym
from assay.augmentation.textattack_import import import_textattack, write_textattack_data
from assay.core.seeds import derived_seed

ROUNDS = 3
SHARE_OF_WORDS = 0.1
THEIR_ROWS = {"synonym": 100, "character_noise": 200}
SHARES = {"share_of_rows": 1.0, "share_of_words": SHARE_OF_WORDS}
RECIPES: list[Any] = [
    Synonym(name="synonym", **SHARES),
    CharacterNoise(name="character_noise", kinds=["swap", "delete", "insert", "keyboard"], **SHARES),
]


@pytest.fixture(scope="module")
def scratch(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (repository / "data/raw/wordnet").is_dir():
        pytest.skip("the default data are not there: run `make repro` first")
    folder = tmp_path_factory.mktemp("textattack") / "scratch"
    folder.mkdir()
    write_textattack_data(repository / "data/raw/wordnet", folder)
    import_textattack(folder)
    return folder


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: str(recipe.name))
def test_rows_a_second_beside_textattack(
    benchmark: BenchmarkFixture, repository: Path, scratch: Path, recipe: Any
) -> None:
    from textattack.augmentation import CharSwapAugmenter, WordNetAugmenter

    table = pl.read_parquet(repository / "data/label_errors/train.parquet").sample(5000, seed=1)
    texts, ids = table["text"].to_list(), table["id"].to_list()
    seeds = [derived_seed(1, recipe.name, id_) for id_ in ids]
    kind = WordNetAugmenter if recipe.name == "synonym" else CharSwapAugmenter
    theirs = kind(pct_words_to_swap=SHARE_OF_WORDS, transformations_per_example=1)
    few = THEIR_ROWS[recipe.name]
    np.random.seed(1)
    rates: dict[str, list[float]] = {"ours": [], "ours, 2 workers": [], "TextAttack": []}

    def with_two_workers() -> object:
        halves = [(texts[start : start + 2500], seeds[start : start + 2500]) for start in (0, 2500)]
        return joblib.Parallel(n_jobs=2)(joblib.delayed(augment_in_process)(*half, recipe, scratch) for half in halves)

    def rounds() -> None:
        for _ in range(ROUNDS):
            rates["TextAttack"].append(few / seconds(lambda: theirs.augment_many(texts[:few])))
            rates["ours"].append(len(texts) / seconds(lambda: augment_in_process(texts, seeds, recipe, scratch)))
            # Workers import TextAttack once, and are there in the rounds that follow.
            rates["ours, 2 workers"].append(len(texts) / seconds(with_two_workers))

    benchmark.pedantic(rounds, rounds=1)  # type: ignore[no-untyped-call]
    medians = {side: statistics.median(found) for side, found in rates.items()}
    benchmark.extra_info |= {
        "rows_per_second": {side: round(rate, 1) for side, rate in medians.items()},
        "times_as_fast": round(medians["ours"] / medians["TextAttack"], 1),
    }
    print(f"\n{recipe.name}: {benchmark.extra_info}")
