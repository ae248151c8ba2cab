"""What inference with a saved model needs beside its weights, so that the folder can be taken elsewhere.

`inference.json` has the `temperature` by which probabilities are calibrated (Guo et al. 2017), of the `validation` rows
the calibrated probability of the predicted label and whether it is the given one, by which a threshold is chosen for a
wanted precision, and the settings of `cleaning`, with the `sources` of these rows.
`cleaning_tokenizer.json` is the tokenizer that cleaning counts tokens by.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from assay.core.outputs import write_json
from assay.probes import scale_temperature

INFERENCE_FILE = "inference.json"
TOKENIZER_FILE = "cleaning_tokenizer.json"


def write_inference(
    folder: Path,
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    cleaning: Mapping[str, Any],
    sources: list[str],
) -> None:
    """Write both files of a model from its logits of the validation rows `(n, k)` and their given labels `(n,)`.

    Args:
        cleaning: the keys of section `clean` that are about one text.
        sources: of the validation rows.
    """
    probabilities, temperature = scale_temperature(softmax(logits.astype(np.float64), axis=1), targets)
    shutil.copyfile(cleaning["max_tokens"]["tokenizer"], folder / TOKENIZER_FILE)
    right = probabilities.argmax(axis=1) == targets
    # Down to the digits that are written, so that the row itself is not below a threshold that it is.
    confidence = np.floor(probabilities.max(axis=1) * 1e6) / 1e6
    write_json(
        folder / INFERENCE_FILE,
        {
            "temperature": temperature,
            "validation": {"probability": confidence.tolist(), "is_right": right.tolist()},
            "cleaning": cleaning,
            "sources": sources,
        },
    )


def copy_inference(folder: Path, export: Path) -> None:
    """Put both files of a model beside an export of it, whose logits are the same."""
    for name in (INFERENCE_FILE, TOKENIZER_FILE):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, export / name)
