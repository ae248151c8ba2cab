"""What the classifiers of `params.yaml` take: `python -m tools.experiments.sizes 10000 20`, of rows and of labels.

The pipeline runs in a scratch copy, without language models, on made rows. Prints a row of a table: rows, labels,
minutes, CPU minutes, the most memory of a process in GiB, and GiB of data and models on disk, beside DVC's cache.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from assay.core.errors import run_stage
from assay.core.results import lookup
from tools.params.preset import PARAMS, write_preset
from tools.run.quick import QUICK, prepare

SCRATCH, TOKENIZER = Path(".dvc/tmp/sizes"), Path("models/base/minilm/tokenizer.json")
SOURCE = {"name": "made", "file": "rows.csv", "format": "csv", "header": True, "url": "made", "licence": None}
SOURCE |= {"retrieved": None, "authenticity": "generated", "columns": {"text": "text", "label": "label"}}
LINES = {"ingest.path": "data/own", "ingest.sources": [SOURCE], "ingest.rating_bins": None, "max_rows": None}
LINES |= {"annotation_qa.label_order": None, "label_errors.evidence": None, "split.group_column": None}


def make_rows(vocabulary: list[str], rows: int, labels: int) -> pl.DataFrame:
    """Made texts and their labels; of the 15 words of a text, five are of the 40 that are typical of its label."""
    random = np.random.default_rng(0)
    label, words = random.integers(labels, size=rows), random.integers(len(vocabulary), size=(rows, 15))
    words[:, :5] = (40 * label[:, None] + words[:, :5] % 40) % len(vocabulary)
    return pl.DataFrame({"text": map(" ".join, np.array(vocabulary)[words]), "label": [f"label{one}" for one in label]})


def main() -> None:
    """Run one size with the Python that is first on PATH (`. .venv/bin/activate`), and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=int)
    parser.add_argument("labels", type=int)
    sizes, started = parser.parse_args(), time.monotonic()
    prepare(SCRATCH)
    known = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in known if word.isascii() and word.isalpha() and len(word) > 2)
    (SCRATCH / "data/own").mkdir(exist_ok=True)
    make_rows(words, sizes.rows, sizes.labels).write_csv(SCRATCH / "data/own/rows.csv")
    # All but the language models as in params.yaml, of which `prepare` has made a quick look.
    own, quick = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (PARAMS, QUICK))
    lines = {dotted: lookup(own, dotted) for dotted in quick["classifiers"]} | LINES
    preset, params = SCRATCH / "sizes.yaml", SCRATCH / PARAMS
    preset.write_text(yaml.safe_dump({"classifiers": lines, "language_models": {}}), encoding="utf-8")
    params.write_text(write_preset(params.read_text(encoding="utf-8"), preset)[0], encoding="utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "report"], cwd=SCRATCH, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    stored = sum(path.stat().st_size for name in ("data", "models") for path in (SCRATCH / name).rglob("*"))
    minutes = [(time.monotonic() - started) / 60, (used.ru_utime + used.ru_stime) / 60]
    took = [*minutes, used.ru_maxrss / 2**20, stored / 2**30]
    print(f"| {sizes.rows:,} | {sizes.labels} | " + " | ".join(f"{value:.2f}" for value in took) + " |")


if __name__ == "__main__":
    run_stage(main)
