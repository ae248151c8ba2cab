"""A copy of the pipeline that runs on small local assets: what the smoke and the drift tests share."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from assay.human_review.corrections import HEADER
from assay.human_review.preference_judgements import HEADER as PREFERENCES_HEADER
from tests.mini_wordnet import write_mini_wordnet
from tests.template_params import read_template_params

KEPT_FOLDERS = (
    *(
        f"metrics/{name}"
        for name in (
            "cost",
            "optional",
            "finetune",
            "evaluate",
            "predictions",
            "robustness",
            "sft",
            "evaluate_generation",
        )
    ),
    *(f"metrics/plots/{name}" for name in ("confusion", "sft_loss", "dpo", "rloo", "ppo")),
    *("data/robustness", "data/generations", "models/reward"),
)
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
    params["compute"] |= {"threads": 1, "precision": "float32"}
    # The others differ in the model alone, which tests/stages/test_finetune.py looks at.
    params["approaches"] = ["tfidf", "lora", "full"]
    params["ingest"]["sources"][1]["ratings"]["exclude_slots"] = ["10"]  # ten people rate
    params["optional"]["robustness"] = ["tfidf", "lora", "full"]
    params["augment"]["workers"] = 1
    params["evaluate"]["simulations"] = 100
    params["robustness"] |= {"attacked_rows": 6, "bootstrap_samples": 100}
    params["annotation_qa"]["min_krippendorff_alpha"] = None
    params["embed"]["max_length_tokens"] = 64
    params["label_errors"]["models"]["finetuned"] |= {"epochs": 1, "max_length_tokens": 64}
    params["label_errors"] |= {"folds": 2}
    params["injected_noise"] |= {"kinds": ["uniform"], "shares": [0.1]}
    params["label_effect"]["bootstrap_samples"] = 100
    params["semantic_duplicates"]["min_cosine"] = 0.995  # to random weights, all texts are alike
    for block in params["finetune"].values():
        if "max_epochs" in block:
            block["max_epochs"] = 1
    params["finetune"]["defaults"]["max_length_tokens"] = 64
    # The tiny language model reads bytes, so chats are long; its random weights find all questions alike.
    params["instruct_data"] |= {"min_question_cosine": None, "max_length_tokens": 1000}
    params["instruct_data"]["context"]["unanswerable"] |= {"max_cosine": None, "max_jaccard": 0.9}
    params["instruct_data"]["label_task"] |= {"train_rows": 12, "validation_rows": 6, "test_rows": 6}
    params["sft_approaches"] = ["full", "lora"]
    steps = {"max_steps": 2, "num_evaluations": 1, "validation_rows": 4, "max_length_tokens": 1000}
    params["sft"]["defaults"] |= steps
    params["preferences"] |= {"max_length_tokens": 1000}
    few_tokens = {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0, "batch_size": 8}
    params["preferences"]["base_answer"] |= {"train_prompts": 6, "held_out_prompts": 4, "decoding": few_tokens}
    params["reward"] |= {"layers": None, "max_steps": 2, "max_length_tokens": 1000, "bootstrap_samples": 100}
    params["reward"]["lora"]["last_layers"] = None
    params["dpo"] |= {"max_steps": 1, "max_length_tokens": 1000, "held_out_pairs": 4, "bootstrap_samples": 100}
    answering = {"max_prompt_tokens": 1000, "max_new_tokens": 8, "held_out_prompts": 4, "bootstrap_samples": 100}
    params["rloo"] |= answering | {"max_steps": 1, "min_reward_accuracy": 0.0}
    params["ppo"] |= answering | {"steps": 1, "prompts_per_step": 8, "min_reward_accuracy": 0.0, "max_kl": 1e6}
    params["decoding"] = few_tokens
    names = ("base", "sft-full", "sft-lora", "dpo", "rloo", "ppo")
    params["generation_models"] = {name: params["generation_models"][name] for name in names}
    params["evaluate_generation"] |= {"bootstrap_samples": 100}
    params["evaluate_generation"]["rows"] = {"answer": 4, "unanswerable": 2, "label": 2}
    pairs = [pair for pair in params["compare_generation"]["pairs"] if {*pair.values()} <= {*names}]
    params["compare_generation"] |= {"pairs": pairs, "bootstrap_samples": 100}
    return params


def write_pipeline_copy(
    repository: Path, target: Path, encoder: Path, language_model: Path, feedback_rows: int
) -> dict[str, Any]:
    """Lay out code, `dvc.yaml`, local assets and smoke params in `target`; returns the params, already written."""
    target.mkdir(parents=True, exist_ok=True)
    for code in ("stages", "assay"):
        shutil.copytree(repository / code, target / code, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dvc.yaml", ".dvcignore"):
        shutil.copy(repository / file, target)
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


def write_params(target: Path, params: dict[str, Any]) -> None:
    """Write `params.yaml`."""
    (target / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
