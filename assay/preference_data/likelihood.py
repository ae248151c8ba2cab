"""How likely a model finds the answers of preference pairs, and how many pairs it ranks rightly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.seeds import SeedKey, keyed_uniform
from assay.language_models.chat_template import TokenisedChat, add_answers, render_chat, tokenise_chats
from assay.language_models.checkpoint import CausalLM, answer_likelihood
from assay.statistics.bootstrap import cluster_means
from assay.statistics.metrics_dict import metrics_of


@dataclass(frozen=True)
class Pairs:
    """Rows of `preferences`, their chats with the better answer and with the worse, and how many were skipped.

    They were `too_long`, or have a special token in their text, which TRL would read as one.
    """

    table: pl.DataFrame
    chosen: list[TokenisedChat]
    rejected: list[TokenisedChat]
    too_long: int
    with_special_token: int


@dataclass(frozen=True)
class Likelihoods:
    """Natural logarithms of the probabilities of both answers of `n` pairs, shape `(n,)` each."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]


def tokenise_pairs(
    table: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int, path: Path
) -> Pairs:
    """The pairs of a table (read from `path`) of which both sides fit; an `InputError` if none does."""
    chats = [add_answers(table["messages"], table[side]) for side in ("chosen", "rejected")]
    sides = [tokenise_chats(tokenizer, side) for side in chats]
    special = [
        any(render_chat(tokenizer, side, answer_follows=False).breaks for side in pair)
        for pair in zip(*chats, strict=True)
    ]
    short = [
        max(len(one.input_ids), len(other.input_ids)) <= max_length_tokens for one, other in zip(*sides, strict=True)
    ]
    fits = [one and not other for one, other in zip(short, special, strict=True)]
    if not any(fits):
        raise InputError(
            f"{path}: none of {table.height} pairs fits {max_length_tokens} tokens; raise `dpo.max_length_tokens` "
            f"({special.count(True)} have a special token in their text, and never fit)"
        )
    chosen, rejected = ([chat for chat, fit in zip(side, fits, strict=True) if fit] for side in sides)
    return Pairs(table.filter(pl.Series(fits)), chosen, rejected, short.count(False), sum(short) - sum(fits))


def sample_pairs(pairs: Pairs, count: int, key: SeedKey) -> Pairs:
    """At most so many of the pairs, sampled by a hash of their ids: a pair keeps its draw when others are added."""
    draws = keyed_uniform(pairs.table["id"], *key).to_numpy()
    rows = np.sort(np.argsort(draws, kind="stable")[:count])
    chosen, rejected = ([side[row] for row in rows] for side in (pairs.chosen, pairs.rejected))
    return replace(pairs, table=pairs.table[rows], chosen=chosen, rejected=rejected)


def score_pairs(
    model: CausalLM, pairs: Pairs, padding_id: int, batch_size: int, device: Device, what: str
) -> Likelihoods:
    """How likely a model in evaluation mode finds the answers of pairs; arguments as of `answer_likelihood`."""
    found = answer_likelihood(model, [*pairs.chosen, *pairs.rejected], padding_id, batch_size, device, what)
    return Likelihoods(*np.split(found.log_probabilities, 2))


def summarise_pairs(
    before: Likelihoods, after: Likelihoods, beta: float, table: pl.DataFrame, samples: int, random: np.random.Generator
) -> dict[str, object]:
    """What a model learnt of held-out pairs, with 95% bootstrap intervals over prompts, as pairs of one go together.

    Likelihoods `before` are the reference's, `after` the policy's.
    """
    margins = beta * ((after.chosen - before.chosen) - (after.rejected - before.rejected))
    figures = {"accuracy": (margins > 0).astype(np.float64), "margin": margins}
    sources, prompts = table["pair_source"].to_numpy().astype(str), table["prompt_id"].to_numpy().astype(str)

    def with_intervals(rows: NDArray[np.bool_]) -> dict[str, object]:
        values = {name: figure[rows] for name, figure in figures.items()}
        return {"pairs": int(rows.sum()), **metrics_of(cluster_means(values, prompts[rows].tolist(), samples, random))}

    return {
        **with_intervals(np.ones(len(sources), dtype=bool)),
        "by_source": {str(source): with_intervals(sources == source) for source in np.unique(sources)},
    }
