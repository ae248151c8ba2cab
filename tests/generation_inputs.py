"""What the generative track leaves for the report, small."""

from pathlib import Path
from typing import Any

import polars as pl

from assay.core.outputs import write_json, write_text

MODELS = {
    "base": "models/base/tiny",
    "sft-lora": "models/sft/lora",
    "ppo": "models/ppo",
    "sft-qlora": "models/sft/qlora",
}
APPROACHES = ["lora", "qlora"]


def scores(value: float, **figures: float) -> dict[str, float]:
    """Figures with intervals of the same width."""
    out: dict[str, float] = {"rows": 3}
    for name, one in figures.items():
        out |= {name: one, f"{name}_ci95_low": one - value, f"{name}_ci95_high": one + value}
    return out


def write_generation_inputs(root: Path) -> None:
    """Three models that answered three questions each, one left out, and the courses of their training."""
    measured: dict[str, Any] = {}
    for name, perplexity, reward in (("base", 3.9, -0.5), ("sft-lora", 2.6, 0.2), ("ppo", 2.7, 0.4)):
        figures = {"perplexity": perplexity, "chrf": 0.3}
        figures |= {"refused": 0.1, "tokens": 31.5, "ended": 0.9, "reward": reward}
        measured[name] = {
            "open": scores(0.1, **figures),
            "retrieved": scores(0.1, chrf=0.2) | {"held": 0},
            "closed": scores(0.1, perplexity=20.0),
            "unanswerable": {"rows": 4, "refused": 0.75, "refused_count": 3, "refused_rows": 4},
            "label": scores(0.1, exact_match=0.5),
        }
    baselines = {"copy_nearest": {"open": scores(0.1, chrf=0.7)}, "majority_label": {"label": {"rows": 1}}}
    word = {"rows": 40, "word": "worse", **scores(0.1, chrf_difference=-0.4)}
    differences = {"perplexity_ratio": 0.66, "chrf_difference": -0.01, "reward_difference": 0.7, "reward_win_rate": 0.8}
    pairs = {"sft-lora_against_base": {"open": scores(0.05, **differences)}, "ppo_against_sft-lora": {}}
    left_out = {"sft-qlora": "no 4-bit arithmetic here"}
    accuracy = scores(0.05, accuracy=0.83) | {"pairs": 201}
    files: dict[str, Any] = {
        "metrics/optional/generation_summary.json": {"models": measured, "baselines": baselines}
        | {"beside_copying": {"open": {"base": word}}, "left_out": left_out, "pairs": pairs},
        "metrics/optional/reward.json": accuracy
        | {"by_source": {"altered_answer": accuracy, "base_answer": {"pairs": 0}}},
        **{f"metrics/optional/{name}.json": {} for name in ("dpo", "rloo", "ppo")},
        **{f"metrics/sft/{name}.json": {} for name in APPROACHES},
    }
    tables = {
        "sft_loss/lora": "step,loss,validation_loss\n0,,1.37\n1,2.5,\n2,1.3,1.1\n",
        "sft_loss/qlora": "step,loss,validation_loss\n",
        "dpo/steps": "step,loss,margin\n1,0.69,0.0\n2,0.5,0.4\n",
        "rloo/steps": "step,score\n1,0.1\n2,-0.2\n",
        "ppo/steps": "step,score,kl\n1,0.1,0.0\n2,0.3,1.5\n",
    }
    for name, value in files.items():
        write_json(root / name, value)
    for name, text in tables.items():
        write_text(root / "metrics/plots" / f"{name}.csv", text)
    for name in measured:
        rows = {
            "id": ["faq:1", "faq:1#unanswerable", "t1"],
            "mode": ["open", "unanswerable", "label"],
            "question": ["Who <pays>?", "Who pays?", "What is the sentiment of this text?"],
            "context": [["The <owner> pays."], ["It rains."], []],
            "reference": ["The owner.", "I do not know.", "negative"],
            "answer": [f"{name} says <so>", "", "positive"],
        }
        answers = pl.DataFrame(rows, schema_overrides={"context": pl.List(pl.String)})
        answers.write_parquet(root / f"data/generations/{name}/answers.parquet", mkdir=True)
