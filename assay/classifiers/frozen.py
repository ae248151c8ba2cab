"""Two baselines on a frozen model, in which nothing is trained; docs/approaches.md says how they go.

`knn`: beside the vote of similar train rows (`neighbour_shares`) one vote more is spread as the labels are among all
train rows (m-estimate with m = 1; Cestnik 1990), so that no probability is 0. Embeddings are in float32.

`prompted`: an answer is a label and the token that ends the turn, so that one label that begins another is no likelier
for it; contextual calibration is that of Zhao et al. 2021, section 4: W = diag(p_cf)^-1, b = 0.

Legend: `n` texts, `m` train rows, `d` dimensions of an embedding, `k` labels. The model is named, not copied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax, logsumexp, softmax

from assay.classifiers.fits import Data, Fit, History, Rows, score_validation
from assay.classifiers.predict import FROZEN_FILE
from assay.compute.cost import Spent, peak_memory_mib
from assay.compute.device import Device
from assay.compute.token_batches import tokenise
from assay.core.outputs import read_json, write_json
from assay.core.prompt_template import fill_places, name_labels
from assay.embeddings.encoder import embed_rows, load_encoder
from assay.fine_tuning.params import BASELINES, Knn, Prompted
from assay.language_models.checkpoint import Decoding, load_causal_lm
from assay.language_models.continuations import ask, tokenise_asked
from assay.probes import neighbour_shares, unit

if TYPE_CHECKING:
    from assay.classifiers.predict import Predictor

VECTORS_FILE = "neighbours.safetensors"
Arrays = dict[str, Any]
Reader = Callable[[list[str], int, str | None], NDArray[Any]]
"""Texts, texts in a forward pass, name of the work → embeddings `(n, d)`, or log probabilities of labels `(n, k)`."""


def load_reader(params: Knn | Prompted, about: dict[str, Any], device: Device) -> tuple[Any, Reader]:
    """The frozen model, and what it makes of texts; `about` has the labels and the arguments of its chat template."""
    if isinstance(params, Knn):
        exact = Device(device.device, torch.float32)
        encoder, words = load_encoder(params.model, params, "finetune", exact)

        def embed(texts: list[str], batch_size: int, what: str | None) -> NDArray[Any]:
            rows = tokenise(words, texts, params.max_length_tokens)
            return embed_rows(encoder, rows, batch_size, exact, 1, what).embeddings

        return encoder, embed
    model, tokenizer = load_causal_lm(Path(params.model), device.device, about["template_arguments"])
    values, labels = {"labels": name_labels(about["labels"])}, about["labels"]

    def ask_for_label(texts: list[str], batch_size: int, what: str | None) -> NDArray[Any]:
        questions = [fill_places(params.prompt, values | {"text": text}) for text in texts]
        chats = [[{"role": "user", "content": question}] for question in questions]
        decoding = Decoding(max_new_tokens=1, temperature=0.0, top_p=1.0, repetition_penalty=1.0, batch_size=batch_size)
        asked = tokenise_asked(tokenizer, chats, [labels] * len(texts))
        return np.asarray(log_softmax(ask(model, tokenizer, asked, False, decoding, device, 0, what)[0], axis=1))

    return model, ask_for_label


def known_rows(embeddings: NDArray[np.float32], rows: Rows, classes: int) -> Arrays:
    """What `vote` needs of the train rows that have weight; `vectors`, of shape `(m, d)`, are less their `centre`."""
    counts = rows.weights > 0
    targets, weights = rows.targets[counts], rows.weights[counts].astype(np.float64)
    centre, shares = embeddings[counts].mean(axis=0), np.bincount(targets, weights, classes) / weights.sum()
    known = {"centre": centre, "vectors": unit(embeddings[counts] - centre), "targets": targets, "weights": weights}
    return {name: np.ascontiguousarray(one) for name, one in (known | {"label_shares": shares}).items()}


def vote(embeddings: NDArray[np.float32], known: Arrays, neighbours: int) -> NDArray[np.float64]:
    """Probabilities of the labels for embeddings `(n, d)` by the vote of train rows, shape `(n, k)`."""
    rows, shares = (known["vectors"], known["targets"], known["weights"]), known["label_shares"]
    count = min(neighbours, len(rows[0]))
    found = neighbour_shares(unit(embeddings - known["centre"]), *rows, count, len(shares))
    return np.asarray((count * found + shares) / (count + 1))


def predict_frozen(
    params: Knn | Prompted, read: Reader, known: Arrays, texts: list[str], batch_size: int, what: str | None
) -> NDArray[np.float64]:
    """Probabilities of the labels, shape `(n, k)`."""
    found = read(texts, batch_size, what)
    if isinstance(params, Knn):
        return vote(found, known, params.neighbours)
    return np.asarray(softmax(found - known["log_preference"], axis=1))


def fit_frozen(
    params: Knn | Prompted, arguments: dict[str, Any], data: Data, folder: Path | None, device: Device
) -> Fit:
    """Embed the train rows, or measure what a language model prefers without reading; saved in `folder`, if any.

    `arguments` are of the chat template. There is no step of training.
    """
    began = Spent.now()
    about = {"params": params.model_dump(), "labels": data.classes, "template_arguments": arguments}
    model, read = load_reader(params, about, device)
    if isinstance(params, Knn):
        embeddings = read(data.train.texts, params.batch_size, "train rows")
        known = known_rows(embeddings, data.train, len(data.classes))
    else:
        nothing = read(params.content_free, params.batch_size, None)
        known = {"log_preference": np.round(logsumexp(nothing, axis=0) - np.log(len(nothing)), 6)}
        about |= {"log_preference": known["log_preference"].tolist()}
    found = predict_frozen(params, read, known, data.validation.texts, params.batch_size, "validation")
    logits = np.log(np.maximum(found, 1e-12)).astype(np.float32)
    scores = score_validation(1, logits, data.validation.targets)
    history = History([], [scores], scores, 1, 0, Spent.now().since(began))
    if folder is not None:
        write_json(folder / FROZEN_FILE, about)
        if isinstance(params, Knn):
            save_file(known, folder / VECTORS_FILE)
    return Fit(history, 0, model.num_parameters(), 0, peak_memory_mib(device.device), logits)


def load_frozen(folder: Path, device: Device) -> tuple[Predictor, list[str]]:
    """What `fit_frozen` saved, with the model, as `load_predictor` gives models."""
    about = read_json(folder / FROZEN_FILE)
    params: Any = BASELINES[about["params"]["method"]].model_validate(about["params"])
    known = load_file(folder / VECTORS_FILE) if isinstance(params, Knn) else about
    return partial(predict_frozen, params, load_reader(params, about, device)[1], known), about["labels"]
