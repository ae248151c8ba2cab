"""Frozen sentence embeddings: mean-pooled last hidden states, as Sentence-BERT (Reimers & Gurevych 2019, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from assay.compute.device import Device, keep_freed_memory
from assay.compute.model_limits import require_model, require_positions, require_safetensors, require_vocabulary
from assay.compute.token_batches import TokenRows, sorted_batches, tokenise
from assay.core.params import Params
from assay.core.progress import progress


class EmbedParams(Params):
    """The `embed` section of `params.yaml`, shared by the stages that embed other texts as the rows were."""

    model: str
    max_length_tokens: int = Field(ge=4, le=8192)
    batch_size: int = Field(ge=1, le=4096)
    last_layers: int = Field(ge=1, le=1000)


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean `(b, h)` of hidden states `(b, tokens, h)` over the tokens of a mask `(b, tokens)` that are not padding."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


@dataclass(frozen=True)
class Embedded:
    """What a frozen encoder makes of `n` rows, in float32.

    Attributes:
        embeddings: mean-pooled last hidden states, of length 1, shape `(n, h)`.
        layers: mean-pooled hidden states of the last layers side by side, each of length 1, shape `(n, layers * h)`.
    """

    embeddings: NDArray[np.float32]
    layers: NDArray[np.float32]


def load_encoder(folder: str, params: Params, section: str, device: Device) -> tuple[Any, Any]:
    """A base encoder in evaluation mode, and its tokenizer; an `InputError` if `params` of a section do not fit it."""
    keep_freed_memory()
    require_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    require_safetensors(folder)
    model: Any = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
    require_positions(model.config, params, section)
    require_vocabulary(tokenizer, model.config, folder)
    return model.to(device.device).eval(), tokenizer


def embedded_texts(texts: Sequence[str], params: EmbedParams, device: Device) -> tuple[Embedded, TokenRows]:
    """What the base encoder makes of texts, shape `(n,)`, and the tokens that it saw."""
    model, tokenizer = load_encoder(params.model, params, "embed", device)
    rows = tokenise(tokenizer, list(texts), params.max_length_tokens)
    return embed_rows(model, rows, params.batch_size, device, params.last_layers), rows


@torch.inference_mode()
def embed_rows(
    model: PreTrainedModel,
    rows: TokenRows,
    batch_size: int,
    device: Device,
    last_layers: int,
    what: str | None = "embed",
) -> Embedded:
    """Embed the rows, in their order; the caller puts the model in evaluation mode. Without `what` nothing is reported.

    Layers below the last know more of words, grammar and tone (Jawahar et al. 2019, https://aclanthology.org/P19-1356).
    Where the model has fewer than `last_layers`, the states of all are kept.
    """
    width = model.config.hidden_size
    kept = min(last_layers, model.config.num_hidden_layers)
    embeddings = np.zeros((len(rows), width), dtype=np.float32)
    layers = np.zeros((len(rows), kept * width), dtype=np.float32)
    batches = sorted_batches(rows.lengths, batch_size)
    for batch in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        ids, mask = (tensor.to(device.device) for tensor in rows.padded(batch))
        with device.autocast():
            output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        embeddings[batch] = _unit(output.last_hidden_state, mask)
        # The first of the hidden states are the word embeddings, below the first layer.
        states = output.hidden_states[len(output.hidden_states) - kept :]
        layers[batch] = np.concatenate([_unit(hidden, mask) for hidden in states], axis=1)
    return Embedded(embeddings, layers)


def _unit(hidden: torch.Tensor, mask: torch.Tensor) -> NDArray[np.float32]:
    """Mean over the tokens, of length 1, shape `(b, h)`."""
    pooled: NDArray[np.float32] = torch.nn.functional.normalize(mean_pooled(hidden.float(), mask), dim=1).cpu().numpy()
    return pooled
