"""Frozen sentence embeddings: mean-pooled last hidden states, as Sentence-BERT (Reimers & Gurevych 2019, section 3)."""

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stages.lib.batches import TokenRows, sorted_batches
from stages.lib.device import Device
from stages.lib.progress import progress


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the hidden states over the tokens that are not padding.

    Args:
        hidden: last hidden states, shape `(b, tokens, h)`.
        mask: 1 for a token, 0 for padding, shape `(b, tokens)`.

    Returns:
        Shape `(b, h)`.
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


@torch.inference_mode()
def embed_rows(model: PreTrainedModel, rows: TokenRows, batch_size: int, device: Device) -> NDArray[np.float32]:
    """Unit-length mean-pooled embeddings, in the order of `rows`.

    Args:
        model: an encoder whose output has `last_hidden_state`; put in evaluation mode by the caller.
        rows: tokenised texts.
        batch_size: texts in a forward pass.
        device: where and in which precision to run.

    Returns:
        Shape `(rows, h)`.
    """
    embeddings = np.zeros((len(rows), model.config.hidden_size), dtype=np.float32)
    batches = sorted_batches(rows.lengths, batch_size)
    for batch in progress(batches, "embed", total=len(batches), unit="batch"):
        ids, mask = (tensor.to(device.device) for tensor in rows.padded(batch))
        with device.autocast():
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = torch.nn.functional.normalize(mean_pooled(hidden.float(), mask), dim=1)
        embeddings[batch] = pooled.cpu().numpy()
    return embeddings
