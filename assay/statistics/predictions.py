"""Predicted labels of the test rows as one small file that stands in git, so that paired tests need nothing else.

JSON, one test row a line in the order of the rows' hashes:

    {"labels": ["bad", "good"], "sources": ["web"], "columns": ["row", "group", "source", "label", "seed_0"],
     "rows": [["0c41d2f0a9be", "77e01a5b3c9d", 0, 1, 1], …]}

`row` and `group` are keyed hashes of the row's id and of its split group, `label` is the row's target label, `seed_0`
the label that the first seed's model predicts; sources and labels are numbers into the lists. It is JSON and not CSV
since DVC takes metrics from JSON (it passes over lists), and a plain output without cache would switch its run cache
off. The key of the hash is public and the same for every seed and fork: a hash hides an id from readers, not from
someone who guesses the id.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
FOLDER = Path("metrics/predictions")
KEY = b"assay test rows"
COLUMNS = ("row", "group", "source", "label")


@dataclass(frozen=True)
class Predictions:
    """Target and predicted labels of `n` test rows, from the models of `s` seeds.

    `rows` and `groups` are hashes, shape `(n,)`; `source` `(n,)` and `label` `(n,)` are places in `sources` and
    `labels`, `predicted` `(s, n)` too.
    """

    rows: list[str]
    groups: list[str]
    sources: list[str]
    labels: list[str]
    source: Integers
    label: Integers
    predicted: Integers

    def clusters(self) -> Integers:
        """The rows' groups as numbers, shape `(n,)`: what the bootstrap draws together."""
        return np.unique(np.array(self.groups), return_inverse=True)[1].astype(np.int64)


def predictions_file(approach: str) -> Path:
    """The file of an approach, relative to the top of the repository."""
    return FOLDER / f"{approach}.json"


def hash_name(name: str) -> str:
    """12 hexadecimal digits of the keyed BLAKE2b of a row's id or a group's name."""
    return hashlib.blake2b(name.encode(), key=KEY, digest_size=6).hexdigest()


def format_predictions(
    ids: Sequence[str],
    groups: Sequence[str],
    sources: Sequence[str],
    labels: Sequence[str],
    label: Integers,
    predicted: Integers,
    extra: dict[str, Any],
) -> str:
    """The text of the file: ids, groups and sources by row, `label` `(n,)` and `predicted` `(s, n)` as numbers.

    `extra` are keys that stand before the others, such as the run id.
    """
    names = sorted(set(sources))
    head = extra | {"labels": list(labels), "sources": names}
    head |= {"columns": [*COLUMNS, *(f"seed_{seed}" for seed in range(len(predicted)))]}
    rows = [
        [hash_name(id_), hash_name(group), names.index(source), int(target), *map(int, of_row)]
        for id_, group, source, target, of_row in zip(ids, groups, sources, label, predicted.T, strict=True)
    ]
    lines = [json.dumps(row, separators=(",", ":")) for row in sorted(rows)]
    fields = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "{\n" + ",\n".join([*fields, '"rows": [\n' + ",\n".join(lines) + "\n]"]) + "\n}\n"


def read_predictions(text: str) -> Predictions | None:
    """The predictions in the text of such a file; None: the approach was skipped, and has none."""
    found = json.loads(text)
    if "left_out" in found:
        return None
    rows = found["rows"]
    numbers = np.array([row[2:] for row in rows], dtype=np.int64).reshape(len(rows), len(found["columns"]) - 2)
    return Predictions(
        rows=[row[0] for row in rows],
        groups=[row[1] for row in rows],
        sources=found["sources"],
        labels=found["labels"],
        source=numbers[:, 0],
        label=numbers[:, 1],
        predicted=np.ascontiguousarray(numbers[:, 2:].T),
    )
