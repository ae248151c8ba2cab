"""Rows a second of our recipes beside TextAttack's own augmenters of the same kind.

The same rows of the default data, one output a row, the same share of words; TextAttack's augmenters as its recipes
build them, with scikit-learn's stop words. Both sides in one process, in turn; ours with two workers besides. The
masked language model is a BERT of MiniLM's size with random weights: the time is that of trained ones.

What is printed with the benchmark (`extra_info`) is the measurement; times are not asserted.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from assay.augmentation.apply import augment_in_process, augment_texts
from assay.augmentation.recipes import CharacterNoise, MaskedLm, Synonym
from assay.augmentation.textattack_import import import_textattack, write_textattack_data
from assay.compute.device import Device
from assay.core.seeds import derived_seed

ROUNDS = 3
SHARE_OF_WORDS = 0.1
THEIR_ROWS = {"synonym": 100, "character_noise": 200, "masked_lm": 8}
OUR_ROWS = {"synonym": 5000, "character_noise": 5000, "masked_lm": 512}
KINDS: list[Any] = ["swap", "delete", "insert", "keyboard"]


@pytest.fixture(scope="module")
def scratch(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (repository / "data/raw/wordnet").is_dir():
        pytest.skip("the default data are not there: run `make repro` first")
    folder = tmp_path_factory.mktemp("textattack") / "scratch"
    folder.mkdir()
    write_textattack_data(repository / "data/raw/wordnet", folder)
    import_textattack(folder)
    return folder


@pytest.fixture(scope="module")
def masked_model(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

    folder = tmp_path_factory.mktemp("masked")
    base = repository / "models/base/minilm"
    torch.manual_seed(1)
    BertForMaskedLM(AutoConfig.from_pretrained(base)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def theirs(name: str, masked_model: Path) -> Any:
    from textattack.augmentation import CharSwapAugmenter, WordNetAugmenter
    from textattack.augmentation.augmenter import Augmenter
    from textattack.constraints.pre_transformation import RepeatModification, StopwordModification
    from textattack.transformations import WordSwapMaskedLM
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    if name == "synonym":
        return WordNetAugmenter(pct_words_to_swap=SHARE_OF_WORDS, transformations_per_example=1)
    if name == "character_noise":
        return CharSwapAugmenter(pct_words_to_swap=SHARE_OF_WORDS, transformations_per_example=1)
    swap = WordSwapMaskedLM(
        masked_language_model=AutoModelForMaskedLM.from_pretrained(masked_model),
        tokenizer=AutoTokenizer.from_pretrained(masked_model),
        max_candidates=10,
        min_confidence=0.0,
    )
    constraints = [RepeatModification(), StopwordModification()]
    return Augmenter(swap, constraints, pct_words_to_swap=SHARE_OF_WORDS, transformations_per_example=1)


def recipe(name: str, masked_model: Path) -> Any:
    shares = {"share_of_rows": 1.0, "share_of_words": SHARE_OF_WORDS}
    if name == "synonym":
        return Synonym(name="synonym", **shares)
    if name == "character_noise":
        return CharacterNoise(name="character_noise", kinds=KINDS, **shares)
    return MaskedLm(
        name="masked_lm", model=str(masked_model), candidates=10, batch_size=64, max_length_tokens=128, **shares
    )


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["synonym", "character_noise", "masked_lm"])
def test_rows_a_second_beside_textattack(
    benchmark: BenchmarkFixture, repository: Path, scratch: Path, masked_model: Path, name: str
) -> None:
    table = pl.read_parquet(repository / "data/label_errors/train.parquet").sample(5000, seed=1)
    texts, ids = table["text"].to_list(), table["id"].to_list()
    seeds = [derived_seed(1, name, id_) for id_ in ids]
    own, other = recipe(name, masked_model), theirs(name, masked_model)
    ours, few = OUR_ROWS[name], THEIR_ROWS[name]
    device = Device(torch.device("cpu"), torch.float32)
    torch.set_num_threads(1)
    np.random.seed(1)
    rates: dict[str, list[float]] = {"ours": [], "ours, 2 workers": [], "TextAttack": []}

    def with_two_workers() -> object:
        halves = [(texts[start : start + 2500], seeds[start : start + 2500]) for start in (0, 2500)]
        return joblib.Parallel(n_jobs=2)(joblib.delayed(augment_in_process)(*half, own, scratch) for half in halves)

    def rounds() -> None:
        for _ in range(ROUNDS):
            rates["TextAttack"].append(few / seconds(lambda: other.augment_many(texts[:few])))
            if name == "masked_lm":
                work = partial(augment_texts, texts[:ours], seeds[:ours], own, scratch, 1, device)
                rates["ours"].append(ours / seconds(work))
                continue
            rates["ours"].append(ours / seconds(lambda: augment_in_process(texts, seeds, own, scratch)))
            # Workers import TextAttack once, and are there in the rounds that follow.
            rates["ours, 2 workers"].append(ours / seconds(with_two_workers))

    benchmark.pedantic(rounds, rounds=1)  # type: ignore[no-untyped-call]
    medians = {side: statistics.median(found) for side, found in rates.items() if found}
    benchmark.extra_info |= {
        "rows_per_second": {side: round(rate, 1) for side, rate in medians.items()},
        "times_as_fast": round(medians["ours"] / medians["TextAttack"], 1),
    }
    print(f"\n{name}: {benchmark.extra_info}")
