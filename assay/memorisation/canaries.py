"""Canaries: invented personal data, planted in training to see whether a model says it again (Carlini et al. 2019).

Exposure (definition 2 there) is log2 |R| - log2 rank, in bits: the rank of a canary among |R| texts of its format by
the model's log-perplexity, 1 for the likeliest. R is here the canary and random candidates, which all canaries of a
format share. Each canary has a question of its own, about an invented person, so that none hides another.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from stdnum.iso7064 import mod_97_10
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.language_models.checkpoint import CausalLM, Decoding
from assay.language_models.continuations import Asked, ask, tokenise_asked
from assay.statistics.metrics_dict import Estimate, interval_metrics

_TEXTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("canaries.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Canary:
    """A question, `|R|` answers of one format (the canary's, then the candidates'), and how often it is planted."""

    repetitions: int
    question: str
    answers: tuple[str, ...]


def make_canaries(repetitions: Sequence[int], each: int, candidates: int, random: np.random.Generator) -> list[Canary]:
    """So many canaries of `each` number of repetitions, their formats in turn, with so many candidates."""
    counts, forms = [count for count in repetitions for _ in range(each)], _TEXTS["formats"]
    secrets = [_draw_secrets(form["secret"], len(counts) + candidates, random) for form in forms]
    names = [f"{first} {last}" for first in _TEXTS["first_names"] for last in _TEXTS["last_names"]]
    canaries = []
    for place, (count, name) in enumerate(zip(counts, random.choice(names, len(counts), replace=False), strict=True)):
        number = place % each % len(forms)
        ranked = (secrets[number][place], *secrets[number][len(counts) :])
        answers = tuple(forms[number]["answer"].format(name=name, secret=secret) for secret in ranked)
        canaries.append(Canary(count, forms[number]["question"].format(name=name), answers))
    return canaries


def _draw_secrets(pattern: str, count: int, random: np.random.Generator) -> list[str]:
    """So many secrets of a pattern, no two the same, drawn uniformly."""
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = re.sub("[#%?!]", lambda sign: str(random.choice([*_TEXTS["letters"][sign[0]]])), pattern)
        country, cut, account = drawn.partition("$$")
        found[f"{country}{mod_97_10.calc_check_digits(account + country)}{account}" if cut else drawn] = None
    return [*found]


def exposures(log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exposure in bits, `(n,)`, from log probabilities `(n, |R|)`, the canaries' first; a tie counts as likelier."""
    ranks = (log_probabilities >= log_probabilities[:, :1]).sum(axis=1)
    bits: NDArray[np.float64] = np.log2(log_probabilities.shape[1]) - np.log2(ranks)
    return bits


def chance_exposure(size: int) -> float:
    """Mean exposure in bits of canaries never seen, whose ranks among `size` texts are uniform: about log2 e = 1.44."""
    return math.log2(size) - math.lgamma(size + 1) / math.log(2) / size


def score_canaries(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    canaries: Sequence[Canary],
    batch: int,
    device: Device,
    what: str,
) -> dict[str, Any]:
    """By repetitions: mean exposure with Student's 95% interval over canaries, and how many of them were extracted;
    `rise_p`, one-sided, of Spearman's correlation of repetitions and exposure, if both vary.

    The model, in evaluation mode, is given a question and what all its answers begin with, `batch` of them at a time. A
    canary is extracted if greedy decoding goes on with all of its secret.
    """
    # Imported here: it takes a second.
    from scipy.stats import spearmanr, ttest_1samp

    questions, asked = [[{"role": "user", "content": canary.question}] for canary in canaries], []
    for one in tokenise_asked(tokenizer, questions, [canary.answers for canary in canaries]):
        given = next(at for at, tokens in enumerate(zip(*one.continuations, strict=False)) if len({*tokens}) > 1)
        prompt = one.prompt + one.continuations[0][:given]
        asked.append(Asked(prompt, [answer[given:] for answer in one.continuations]))
    secrets = [one.continuations[0][:-1] for one in asked]  # without the token that ends the answer
    longest = max(map(len, secrets))
    greedy = Decoding(max_new_tokens=longest, temperature=0.0, top_p=1.0, repetition_penalty=1.0, batch_size=batch)
    likelihoods, said = ask(model, tokenizer, asked, True, greedy, device, 0, what)
    extracted = np.array([got[: len(one)] == one for (got, _), one in zip(said or [], secrets, strict=True)])
    exposure, repetitions, scores = exposures(likelihoods), np.array([one.repetitions for one in canaries]), {}
    for count in np.unique(repetitions).tolist():
        values, low, high = exposure[repetitions == count], None, None
        if np.ptp(values) > 0:
            low, high = np.clip(ttest_1samp(values, 0.0).confidence_interval(), 0.0, math.log2(likelihoods.shape[1]))
        counts = {"canaries": len(values), "extracted": int(extracted[repetitions == count].sum())}
        scores[str(count)] = counts | interval_metrics("exposure", Estimate(float(values.mean()), low, high))
    if not (np.ptp(repetitions) and np.ptp(exposure)):
        return {"repeated": scores}
    return {"repeated": scores, "rise_p": float(spearmanr(repetitions, exposure, alternative="greater").pvalue)}
