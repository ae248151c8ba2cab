"""Baselines on a frozen model: the vote of the nearest train rows, and a language model that is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.neighbors import KNeighborsClassifier

from assay.classifiers.fits import Data, Rows
from assay.classifiers.frozen import fit_frozen, load_frozen, load_reader, vote
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.fine_tuning.params import Knn, Prompted
from assay.language_models.chat_template import tokenise_chats
from assay.language_models.checkpoint import answer_likelihood, load_causal_lm
from assay.probes import NEIGHBOUR_REACH, neighbour_shares, unit

DEVICE = Device(torch.device("cpu"), torch.float32)


def test_the_vote_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    known, vectors = (unit(random.normal(size=(rows, 6)).astype(np.float32)) for rows in (40, 9))
    codes = np.arange(40) % 3

    def closeness(distances: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-distances / NEIGHBOUR_REACH)  # cosine distance: 1 - cosine

    expected = KNeighborsClassifier(7, weights=closeness, metric="cosine").fit(known, codes).predict_proba(vectors)
    np.testing.assert_allclose(neighbour_shares(vectors, known, codes, np.ones(40), 7, 3), expected, atol=1e-5)


def test_a_vote_counts_as_much_as_its_row_and_one_is_spread_as_labels_are() -> None:
    known = {"centre": np.zeros(2), "vectors": np.array([[1, 0], [1, 0]], dtype=np.float32)}
    known |= {"targets": np.array([0, 1]), "weights": np.array([1.0, 0.25]), "label_shares": np.array([0.7, 0.2, 0.1])}
    found = vote(np.array([[2, 0]], dtype=np.float32), known, 20)
    assert found[0] == pytest.approx((2 * np.array([0.8, 0.2, 0.0]) + known["label_shares"]) / 3)


def test_a_row_without_weight_is_not_kept_and_a_loaded_folder_says_the_same(tmp_path: Path, tiny_encoder: Path) -> None:
    texts = ["great card", "awful bank", "great app", "awful card"]
    targets = np.array([1, 0, 1, 0])
    rows = Rows(list("abcd"), texts, ["good" if one else "bad" for one in targets], targets, np.ones(4))
    data = Data(replace(rows, weights=np.array([1.0, 1.0, 0.0, 0.5])), rows, ["bad", "good"])
    params = Knn(method="knn", model=str(tiny_encoder), max_length_tokens=16, batch_size=2, neighbours=1)
    fit = fit_frozen(params, {}, data, tmp_path, DEVICE)
    predictor, labels = load_frozen(tmp_path, DEVICE)
    assert labels == ["bad", "good"]
    probabilities = predictor(texts, 2, None)
    np.testing.assert_allclose(np.log(probabilities), fit.validation_logits, atol=1e-5)
    # One neighbour, itself where it is known, and the shares 1.5 and 1 of 2.5.
    assert probabilities[:2, 1] == pytest.approx([(1 + 0.4) / 2, 0.4 / 2])
    assert fit.total_parameters > fit.trainable_parameters == 0


LABELS = ["bad", "badly late", "good"]
TEXTS = ["the card came late", "N/A", "great"]
ROWS = Rows(list("abc"), TEXTS, LABELS, np.arange(3), np.ones(3))


def params_of(model: Path) -> Prompted:
    prompt = "Is it {labels}?\n\n{text}"
    return Prompted(method="prompted", model=str(model), batch_size=2, prompt=prompt, content_free=["N/A"])


def test_labels_of_several_tokens_are_compared_by_whole_answers_with_their_end(tiny_chat_model: Path) -> None:
    model, tokenizer = load_causal_lm(tiny_chat_model, DEVICE.device)
    about = {"labels": LABELS, "template_arguments": {}}
    found = load_reader(params_of(tiny_chat_model), about, DEVICE)[1](TEXTS, 2, None)
    asked = [{"role": "user", "content": f"Is it bad, badly late or good?\n\n{text}"} for text in TEXTS]
    chats = tokenise_chats(
        tokenizer, [[one, {"role": "assistant", "content": label}] for one in asked for label in LABELS]
    )
    alone = answer_likelihood(model, chats, tokenizer.pad_token_id, 1, DEVICE, None).log_probabilities.reshape(3, 3)
    np.testing.assert_allclose(found, log_softmax(alone, axis=1), atol=1e-4)


def test_a_text_that_says_nothing_gets_every_label_alike(tmp_path: Path, tiny_chat_model: Path) -> None:
    params, data = params_of(tiny_chat_model), Data(ROWS, ROWS, LABELS)
    fit = fit_frozen(params, {}, data, tmp_path, DEVICE)
    assert [path.name for path in tmp_path.iterdir()] == ["frozen.json"]
    predictor, labels = load_frozen(tmp_path, DEVICE)
    assert labels == LABELS
    probabilities = predictor(TEXTS, 2, None)
    np.testing.assert_allclose(probabilities[1], 1 / 3, atol=1e-4)
    np.testing.assert_allclose(np.log(probabilities), log_softmax(fit.validation_logits, axis=1), atol=1e-4)
    assert np.ptp(probabilities[0]) > 1e-3


def test_template_arguments_reach_the_chat_template(tmp_path: Path, tiny_chat_model: Path) -> None:
    with pytest.raises(InputError, match=r"template_arguments\.absent`: the chat template of .* has no such name"):
        fit_frozen(params_of(tiny_chat_model), {"absent": True}, Data(ROWS, ROWS, LABELS), tmp_path, DEVICE)
