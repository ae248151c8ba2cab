"""Token rows, tokenised once, and length-bucketed batches with dynamic padding."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

BATCHES_PER_BUCKET = 50


@dataclass(frozen=True)
class TokenRows:
    """The token ids of all texts end to end `(tokens,)`, so that a batch is cut without a Python loop over rows.

    Attributes:
        starts: where each row starts in `ids`, shape `(rows,)`; how many tokens it has: `lengths`.
        padding_id: the token id that a batch is padded with.
        pads_left: shorter rows are padded before their tokens, and not after.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    padding_id: int
    pads_left: bool = False

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of these numbers `(b,)` as a batch: token ids and attention mask, int64 of shape `(b, longest)`."""
        lengths = self.lengths[rows]
        positions = np.broadcast_to(np.arange(lengths.max()), (len(rows), lengths.max()))
        if self.pads_left:
            positions = positions - (lengths.max() - lengths[:, None])
        mask = (positions >= 0) & (positions < lengths[:, None])
        ids = np.full(mask.shape, self.padding_id, dtype=np.int64)
        ids[mask] = self.ids[(self.starts[rows][:, None] + positions)[mask]]
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length_tokens: int) -> TokenRows:
    """Tokenise all texts at once, cut to `max_length_tokens`, special tokens included."""
    options = {"max_length": max_length_tokens, "return_attention_mask": False, "return_token_type_ids": False}
    # A tokenizer fails on no texts.
    encoded = texts and tokenizer(texts, truncation=True, **options)["input_ids"]
    lengths = np.array([len(row) for row in encoded], dtype=np.int64)
    flat = np.fromiter((token for row in encoded for token in row), dtype=np.int64, count=int(lengths.sum()))
    padding_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return TokenRows(flat, lengths.cumsum() - lengths, lengths, int(padding_id), tokenizer.padding_side == "left")


def sorted_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Row numbers in batches of equal size, longest rows first, so that memory runs out at once or never."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Row numbers in random length-bucketed batches.

    Rows are shuffled, cut into buckets of `BATCHES_PER_BUCKET` batches, sorted by length inside each bucket, cut into
    batches, and the batches are shuffled: little padding, and almost the randomness of a full shuffle.
    """
    order = random.permutation(len(lengths))
    bucket = batch_size * BATCHES_PER_BUCKET
    batches = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[cut : cut + batch_size] for cut in range(0, len(rows), batch_size)]
    return [batches[position] for position in random.permutation(len(batches))]
