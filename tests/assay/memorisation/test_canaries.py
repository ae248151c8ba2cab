from pathlib import Path

import numpy as np
import pytest
import torch
from stdnum import iban

from assay.compute.device import Device
from assay.core.seeds import generator
from assay.language_models.chat_template import tokenise_chats
from assay.language_models.checkpoint import answer_likelihood, load_causal_lm
from assay.memorisation.canaries import chance_exposure, exposures, make_canaries, score_canaries

DEVICE = Device(torch.device("cpu"), torch.float32)


def test_canaries_are_distinct_and_share_their_candidates() -> None:
    canaries = make_canaries([1, 4], 3, 20, generator(5, "canaries"))
    assert [one.repetitions for one in canaries] == [1, 1, 1, 4, 4, 4]
    assert len({one.question for one in canaries}) == 6
    secrets = [[answer.split(" is ")[1] for answer in one.answers] for one in canaries]
    for first, second in zip(secrets[:3], secrets[3:], strict=True):
        assert first[1:] == second[1:]
        assert len({first[0], *second}) == 22
    email, phone, account = secrets[:3]
    assert all(secret.endswith("@example.com") for secret in email)
    assert all(secret[5:12] == " 555-01" for secret in phone)
    assert all(iban.is_valid(secret, check_country=False) and secret[4:8] == "TEST" for secret in account)
    assert canaries == make_canaries([1, 4], 3, 20, generator(5, "canaries"))


def test_exposure_is_by_rank_and_chance_is_its_mean_over_all_ranks() -> None:
    likelihoods = np.log([[0.4, 0.3, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1], [0.1, 0.4, 0.3, 0.2], [0.1, 0.1, 0.01, 0.01]])
    assert exposures(likelihoods).tolist() == pytest.approx([2, 1, 0, 1])
    ranked = np.stack([np.roll(np.arange(64.0), turn) for turn in range(64)])
    assert chance_exposure(64) == pytest.approx(exposures(ranked).mean())


def test_scores_are_those_of_whole_answers(tiny_chat_model: Path) -> None:
    model, tokenizer = load_causal_lm(tiny_chat_model, DEVICE.device)
    canaries = make_canaries([1, 2, 3], 1, 15, generator(5, "canaries"))
    scores = score_canaries(model, tokenizer, canaries, 2, DEVICE, "test")["repeated"]
    for canary in canaries:
        question = {"role": "user", "content": canary.question}
        chats = [[question, {"role": "assistant", "content": answer}] for answer in canary.answers]
        found = answer_likelihood(model, tokenise_chats(tokenizer, chats), tokenizer.pad_token_id, 4, DEVICE, None)
        (expected,) = exposures(found.log_probabilities[None])
        assert scores[str(canary.repetitions)] == {"canaries": 1, "extracted": 0, "exposure": pytest.approx(expected)}
