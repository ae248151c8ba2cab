"""A copy of the pipeline that runs on small local assets: what the smoke and the drift tests share."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from assay.human_review.corrections import HEADER
from assay.human_review.preference_judgements import HEADER as PREFERENCES_HEADER
from tests.mini_wordnet import write_mini_wordnet
from tests.own_params import block_at
from tests.template_params import read_template_params

OF_METRICS = ("cost", "optional", "finetune", "evaluate", "predictions", "robustness", "sft", "evaluate_generation")
KEPT_FOLDERS = (
    *(f"metrics/{name}" for name in OF_METRICS),
    *(f"metrics/plots/{name}" for name in ("confusion", "sft_loss", "dpo", "rloo", "ppo")),
    *("data/robustness", "data/generations", "models/reward"),
)
SMOKE = Path(__file__).with_name("smoke.yaml")
GOOD = ["good", "great", "love", "happy", "fast", "works", "cheap"]
BAD = ["bad", "awful", "hate", "sad", "slow", "broken", "late"]
QUESTIONS = 60
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
    for name in ("tweets", "amazonReviewSnippets"):
        # Three sentences a review.
        rows = rated_rows(count) if name == "tweets" else rated_rows(count // 2)
        ids = {key: key if name == "tweets" else f"{int(key) // 3}_{key}" for key, *_ in rows}
        texts = [f"{ids[key]}\t{mean}\t{name[:6]} {text}" for key, mean, text, _ in rows]
        ratings = [f"{ids[key]}\t{mean}\t1.0\t{json.dumps(values)}" for key, mean, _, values in rows]
        (folder / f"{name}_GroundTruth.txt").write_bytes(("\r\n".join(texts) + "\r\n").encode())
        (folder / f"{name}_anonDataRatings.txt").write_bytes(("\ufeff" + "\r\n".join(ratings) + "\r\n").encode())


def write_questions(folder: Path, count: int) -> None:
    """Questions and answers of a few categories in the form of the default data, no two alike."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    lines = []
    for index in range(count):
        thing, other = random.choice(PLAIN, 2, replace=False)
        key = index * 7919 % 9973
        question = f"How long does {thing} number {key} take?"
        answer = f"The {thing} takes {index + 2} days and must go with the {other}, case {key}."
        row = {"id": f"q{index:03}", "category": f"topic{index % 4}", "q": question, "a": answer, "sources": []}
        lines.append(json.dumps(row))
    (folder / "faq-en.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def smoke_params(params: dict[str, Any]) -> dict[str, Any]:
    """Params of the preset `full`, with some of the approaches, one pass over the rows and few bootstrap samples."""
    for path, settings in yaml.safe_load(SMOKE.read_text(encoding="utf-8")).items():
        block = block_at(params, path)
        block |= settings
    for block in params["finetune"].values():
        if "max_epochs" in block:
            block["max_epochs"] = 1
    names = ("base", "sft-full", "sft-lora", "dpo", "rloo", "ppo")
    params["generation_models"] = {name: params["generation_models"][name] for name in names}
    pairs = [pair for pair in params["compare_generation"]["pairs"] if {*pair.values()} <= {*names}]
    params["compare_generation"]["pairs"] = pairs
    return params


def write_pipeline_copy(
    repository: Path, target: Path, encoder: Path, language_model: Path, feedback_rows: int
) -> dict[str, Any]:
    """Lay out code, pipelines, local assets and smoke params in `target`; returns the params, already written."""
    target.mkdir(parents=True, exist_ok=True)
    for code in ("stages", "assay"):
        shutil.copytree(repository / code, target / code, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dvc.yaml", ".dvcignore"):
        shutil.copy(repository / file, target)
    shutil.copytree(repository / "ablation", target / "ablation", ignore=shutil.ignore_patterns("dvc.lock"))
    # Folders that git keeps: what comes after an optional stage depends on them.
    for folder in KEPT_FOLDERS:
        (target / folder).mkdir(parents=True)
    (target / "data/corrections.csv").write_text(f"{HEADER}\n")
    (target / "data/preferences.csv").write_text(f"{PREFERENCES_HEADER}\n")
    assets = target / "assets"
    assets.mkdir()
    write_feedback(assets / "feedback", feedback_rows)
    write_mini_wordnet(assets / "wordnet")
    shutil.copytree(encoder, assets / "minilm")
    shutil.copytree(language_model, assets / "smollm2")
    write_questions(assets / "faq", QUESTIONS)
    params = smoke_params(read_template_params())
    for name, asset in params["fetch"]["assets"].items():
        packed = assets / f"{name}.tar.gz"
        asset |= {"source": f"assets/{name}.tar.gz", "unpack": [name], "sha256": archive(assets / name, packed)}
        if name == "smollm2":
            asset["convert"] = None  # it is no GGUF
        shutil.rmtree(assets / name)
    write_params(target, params)
    return params


IN_FORKS = """
import importlib, json, os, sys
from assay.core.errors import run_stage
jobs = json.loads(sys.argv[1])
modules = {module: importlib.import_module(module) for _, module, *_ in jobs}
for folder, module, *arguments in jobs:
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.argv = [module, *arguments]
        run_stage(modules[module].main)
        sys.stdout.flush()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports take most of the time of a stage that fails, or has small data: one import serves for all."""


def run_in_forks(jobs: list[list[str]], code: Path, imports: str = "") -> tuple[list[int], str]:
    """Run stages, each given as its folder, its module and arguments, with the code of a folder; nothing else is there.

    Returns the exit codes, and all that was said.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", imports + IN_FORKS, json.dumps(jobs)]
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = [int(line) for line in done.stdout.splitlines() if re.fullmatch(r"-?\d+", line)]
    return codes, f"{done.stdout}\n{done.stderr}"


def write_params(target: Path, params: dict[str, Any]) -> None:
    """Write `params.yaml`."""
    (target / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
