"""A copy of the pipeline that runs on small local assets: what the smoke and the drift tests share."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages.lib.corrections import HEADER
from tests.mini_wordnet import write_mini_wordnet

GOOD = ["good", "great", "love", "happy", "fast", "works", "cheap"]
BAD = ["bad", "awful", "hate", "sad", "slow", "broken", "late"]
PLAIN = ["card", "account", "money", "bank", "transfer", "phone", "screen", "battery", "app", "price"]


def archive(folder: Path, target: Path) -> str:
    """Pack a folder as `<name>.tar.gz` with the folder's name as its top, and return the SHA-256 of the archive."""
    with tarfile.open(target, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def rated_rows(count: int) -> list[tuple[str, float, str, list[int]]]:
    """Rows `(id, mean rating, text, ratings)` of three sentiments in turn, rated by ten people who err now and then."""
    random = np.random.default_rng(7)
    rows = []
    for index in range(count):
        sentiment = index % 3 - 1
        words = {-1: BAD, 0: PLAIN, 1: GOOD}[sentiment]
        text = " ".join(
            ["the", *random.choice(PLAIN, 3), "is", *random.choice(words, 3), "today", f"no{index * 7919 % 9973}"]
        )
        ratings = [int(value) for value in np.clip(2 * sentiment + random.integers(-2, 3, 10), -4, 4)]
        rows.append((str(index), float(np.mean(ratings)), text, ratings))
    return rows


def write_feedback(folder: Path, count: int) -> None:
    """Two pairs of files in the form of the default data: byte-order mark, CRLF line ends, tabs."""
    folder.mkdir(parents=True)
    for name, prefix in (("tweets", ""), ("amazonReviewSnippets", "1_")):
        rows = rated_rows(count) if name == "tweets" else rated_rows(count // 2)
        texts = [f"{prefix}{key}\t{mean}\t{name[:6]} {text}" for key, mean, text, _ in rows]
        ratings = [f"{prefix}{key}\t{mean}\t1.0\t{json.dumps(values)}" for key, mean, _, values in rows]
        (folder / f"{name}_GroundTruth.txt").write_bytes(("\r\n".join(texts) + "\r\n").encode())
        (folder / f"{name}_anonDataRatings.txt").write_bytes(("\ufeff" + "\r\n".join(ratings) + "\r\n").encode())


def smoke_params(params: dict[str, Any]) -> dict[str, Any]:
    """The committed params, with some of the approaches, one pass over the rows and few bootstrap samples."""
    params["compute"] |= {"threads": 1, "precision": "float32"}
    # The others differ in the model alone, which tests/stages/test_finetune.py looks at.
    params["approaches"] = ["tfidf", "lora", "full"]
    params["augment"]["workers"] = 1
    params["evaluate"]["bootstrap_samples"] = 100
    params["robustness"] |= {"attacked_rows": 6, "bootstrap_samples": 100}
    params["annotation_qa"] |= {"min_common_items": 10, "min_krippendorff_alpha": None}
    params["embed"]["max_length_tokens"] = 64
    params["label_errors"]["models"]["finetuned"] |= {"epochs": 1, "max_length_tokens": 64}
    params["label_errors"] |= {"folds": 2}
    params["injected_noise"] |= {"kinds": ["uniform"], "shares": [0.1]}
    params["label_effect"] |= {"seeds": 2, "bootstrap_samples": 100}
    params["semantic_duplicates"]["min_cosine"] = 0.995  # to random weights, all texts are alike
    for block in params["finetune"].values():
        if "max_epochs" in block:
            block |= {"max_epochs": 1, "max_length_tokens": 64}
    return params


def write_pipeline_copy(repository: Path, target: Path, encoder: Path, feedback_rows: int) -> dict[str, Any]:
    """Lay out code, `dvc.yaml`, local assets and smoke params in `target`; returns the params, already written."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(repository / "stages", target / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "dvc.yaml", target)
    (target / "data").mkdir(exist_ok=True)
    (target / "data/corrections.csv").write_text(f"{HEADER}\n")
    assets = target / "assets"
    assets.mkdir()
    write_feedback(assets / "feedback", feedback_rows)
    write_mini_wordnet(assets / "wordnet")
    shutil.copytree(encoder, assets / "minilm")
    params = smoke_params(yaml.safe_load((repository / "params.yaml").read_text()))
    for name, asset in params["fetch"]["assets"].items():
        packed = assets / f"{name}.tar.gz"
        asset |= {"source": f"assets/{name}.tar.gz", "unpack": [name], "sha256": archive(assets / name, packed)}
        shutil.rmtree(assets / name)
    write_params(target, params)
    return params


def write_params(target: Path, params: dict[str, Any]) -> None:
    """Write `params.yaml`."""
    (target / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
