"""What the generative track leaves for the report, small."""

from pathlib import Path

import polars as pl
import yaml

from assay.core.outputs import write_json, write_text

MODELS = {
    "base": "models/base/tiny",
    "sft-lora": "models/sft/lora",
    "ppo": "models/ppo",
    "sft-qlora": "models/sft/qlora",
}
APPROACHES = ["lora", "qlora"]


def write_generation_inputs(root: Path) -> None:
    """Metrics, courses of training and answers of three models, another being left out."""
    files = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    for name, content in files.items():
        write = write_text if name.endswith(".csv") else write_json
        write(root / "metrics" / name, content)
    for name in ("base", "sft-lora", "ppo"):
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
