"""What the stages that train a policy read, small: chats, pairs, a reward model and fine-tuned models."""

from pathlib import Path
from typing import Any

import peft
import polars as pl
import torch
import yaml

from assay.classifiers.checkpoint import save_classifier
from assay.core.outputs import read_json, write_json, write_text
from assay.language_models.chat_template import MESSAGES
from assay.language_models.checkpoint import load_causal_lm, save_causal_lm
from assay.reward.model import new_reward_model
from tests.own_params import COMPUTE as COMPUTE
from tests.own_params import change as change

CPU = torch.device("cpu")
SETTINGS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("policy_params.yaml").read_text("utf-8"))
"""Sections of the stages, small."""
GREEDY, TRAINER, PPO_LOOP = SETTINGS["decoding"], SETTINGS["trainer"], SETTINGS["ppo_loop"]
QUESTIONS = ("How long does it take?", "Who pays?", "What is a permit, and who gives it?", "Why?", "Is it dear?")


def chat(number: int) -> list[dict[str, str]]:
    """A chat without its answer; every third has a system message."""
    system = [{"role": "system", "content": "Be short."}] if number % 3 == 0 else []
    return [*system, {"role": "user", "content": f"{QUESTIONS[number % len(QUESTIONS)]} No. {number}"}]


def write_chats(path: Path, rows: int, source: str) -> None:
    """A chat table with the columns that policies need, tasks in turn."""
    tasks = ("answer", "unanswerable", "label")
    pl.DataFrame(
        {
            "id": [f"{source}:{row}" for row in range(rows)],
            "task": [tasks[row % 3] for row in range(rows)],
            "messages": [[*chat(row), {"role": "assistant", "content": f"Answer {row}."}] for row in range(rows)],
        },
        schema_overrides={"messages": MESSAGES},
    ).write_parquet(path, mkdir=True)


def write_pairs(path: Path, rows: int, source: str) -> None:
    """A pair table in which the better answer is in lower case and the worse one in capitals, two to a prompt."""
    pl.DataFrame(
        {
            "id": [f"{source}:{row}" for row in range(rows)],
            "prompt_id": [f"{source}:{row // 2}" for row in range(rows)],
            "category": ["permits"] * rows,
            "pair_source": [("sibling_answer", "altered_answer")[row % 2] for row in range(rows)],
            "messages": [chat(row // 2) for row in range(rows)],
            "chosen": [f"in {row} weeks" for row in range(rows)],
            "rejected": [f"NO IDEA {row}" for row in range(rows)],
            "detail": [""] * rows,
        },
        schema_overrides={"messages": MESSAGES},
    ).write_parquet(path, mkdir=True)


def move_trainable(model: Any, by: float = 0.02) -> None:
    """Change all parameters that are trained, as training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn_like(parameter))


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """A LoRA adapter on a model, away from where adapters start."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.1)
    adapted = peft.get_peft_model(model, config)
    move_trainable(adapted)
    save_causal_lm(adapted, tokenizer, folder)


def write_models(base: Path) -> None:
    """A reward model that says little, its accuracy, and fine-tuned models: an adapter, a whole one, one left out."""
    torch.manual_seed(0)
    reward, tokenizer = new_reward_model(str(base), CPU)
    save_classifier(reward, tokenizer, 512, Path("models/reward/model"))
    write_json("metrics/optional/reward.json", {"accuracy": 0.83})

    model, tokenizer = load_causal_lm(base, CPU)
    save_causal_lm(model, tokenizer, Path("models/sft/full"))
    save_adapter(model, tokenizer, Path("models/sft/lora"))
    write_text("models/sft/qlora/left_out.txt", "no 4-bit arithmetic here\n")


def write_workspace(stage: str, base: Path) -> None:
    """What `dpo`, `rloo` or `ppo` reads, in the current folder."""
    Path("params.yaml").write_text(yaml.safe_dump({"seed": 3, "compute": COMPUTE, stage: SETTINGS[stage]}))
    if stage == "dpo":
        write_pairs(Path("data/preferences/train.parquet"), 40, "faq")
        write_pairs(Path("data/preferences/held_out.parquet"), 20, "held")
    else:
        write_chats(Path("data/instruct/train.parquet"), 30, "faq")
        write_chats(Path("data/instruct/validation.parquet"), 18, "held")
    write_models(base)


def require_trained(stage: str, init: str) -> None:
    """`rloo` or `ppo` has moved the policy, which is still of the kind of `init`, and measured it."""
    metrics = read_json(f"metrics/optional/{stage}.json")
    low, value, high = (metrics[f"reward_difference{end}"] for end in ("_ci95_low", "", "_ci95_high"))
    assert low <= value <= high
    assert metrics["kl_to_reference"] != 0
    assert Path(f"models/{stage}/adapter_config.json").is_file() == (init == "lora")
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.inference_mode():
        before, after = (
            load_causal_lm(Path(f), CPU)[0](input_ids=ids).logits for f in (f"models/sft/{init}", f"models/{stage}")
        )
    assert not torch.allclose(before, after)


def bytes_below(*paths: str) -> dict[str, bytes]:
    """Content of files, and of all files below folders, by name."""
    files = [file for path in paths for file in (Path(path).rglob("*") if Path(path).is_dir() else [Path(path)])]
    return {str(file): file.read_bytes() for file in sorted(files) if file.is_file()}
