"""A reward model: a causal language model with one linear layer in the place of the vocabulary, that scores an answer.

The reward of a chat is the layer's output at the chat's last token, the one that ends the answer (Ouyang et al. 2022,
section 3.5), so that the whole answer is behind it. It is saved by `save_classifier`, as one with a single label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from assay.classifiers.checkpoint import load_classifier, new_classifier
from assay.compute.device import Device, keep_freed_memory
from assay.compute.token_batches import sorted_batches
from assay.core.errors import InputError
from assay.core.progress import progress
from assay.language_models.base_template import TemplateArguments, prepare_template
from assay.language_models.chat_template import ANSWERING, Message, RenderedChat, encode_chats, render_chat

LABEL = "reward"

RewardModel = Any
"""A sequence classifier of transformers with one label, or one with an adapter of peft."""


def new_reward_model(
    base: str, device: torch.device, layers: int | None = None, arguments: TemplateArguments | None = None
) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """A base model with a new head of one output, and its tokenizer, set to pad with a token that ends no answer.

    The head starts from random values: seed PyTorch before. Of the base the lowest `layers` are kept (None: all); of a
    model that is fine-tuned the top layers are missed least (Sajjad et al. 2023, https://arxiv.org/abs/2004.03844). An
    `InputError` if there is no model, it is no decoder, its chat template does not serve, or it has fewer layers.
    """
    if device.type == "cpu":
        keep_freed_memory()
    model: RewardModel
    model, tokenizer = new_classifier(base, [LABEL], "last")
    prepare_template(tokenizer, base, arguments or {})
    if layers is not None:
        _keep_lowest(model, layers, base)
    tokenizer.pad_token = padding_token(tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.problem_type = "regression"  # transformers refuses to load the other one with a single label
    return model.float().to(device), tokenizer


def _keep_lowest(model: RewardModel, layers: int, base: str) -> None:
    """Leave the upper layers out; the configuration that is saved says so, and loading reads no more of the base."""
    config = model.config
    if not hasattr(model.base_model, "layers"):
        raise InputError(f"params.yaml: `reward.layers` = {layers}, but {base} is of a kind that is not cut: say null")
    if layers > config.num_hidden_layers:
        there = f"{base} has {config.num_hidden_layers}"
        raise InputError(f"params.yaml: `reward.layers` = {layers}, but {there}; null takes all")
    model.base_model.layers = model.base_model.layers[:layers]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def padding_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """A token that no chat ends with.

    Transformers takes the state of the last token that is not the padding token. Many tokenizers pad with the token
    that ends an answer, and then the state would be that of a token before it. Which other token it is does not matter:
    the attention mask hides it.
    """
    chat = [{"role": "user", "content": "a"}, {"role": ANSWERING, "content": "b"}]
    end = tokenise_whole(tokenizer, [chat])[0][-1]
    known = [tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids, *range(2)]
    return tokenizer.convert_ids_to_tokens(next(one for one in known if one is not None and one != end))  # type: ignore[return-value]


def tokenise_whole(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of whole chats, each of which ends with an answer, up to the token that ends it."""
    rendered = []
    for messages in chats:
        if not messages or messages[-1]["role"] != ANSWERING:
            raise ValueError(f"a chat of roles {[one['role'] for one in messages]} does not end with an answer")
        whole = render_chat(tokenizer, messages, answer_follows=False)
        rendered.append(RenderedChat(whole.text.rstrip(), whole.breaks))
    return [ids for ids, _ in encode_chats(tokenizer, rendered)]


def load_reward_model(folder: Path, device: torch.device) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """A reward model in evaluation mode, and its tokenizer; an `InputError` if its base is gone."""
    model: RewardModel
    model, tokenizer, _ = load_classifier(folder)
    return model.float().to(device), tokenizer


@torch.inference_mode()
def score_answers(
    model: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    chats_with_answers: Sequence[Sequence[Message]],
    batch_size: int,
    device: Device,
    what: str | None,
) -> NDArray[np.float64]:
    """The reward of the answer at the end of each chat, shape `(n,)`, by a model in evaluation mode.

    A chat is scored whole, however long it is: to cut it would take its answer away. The tokenizer is the reward
    model's, which need not be the policy's. Without `what` there is no progress report.
    """
    asked = [tuple(ids) for ids in tokenise_whole(tokenizer, chats_with_answers)]
    # Pairs of one prompt share their better side.
    rows = list(dict.fromkeys(asked))
    scores = np.zeros(len(rows))
    batches = sorted_batches(np.array([len(ids) for ids in rows], dtype=np.int64), batch_size)
    for batch in batches if what is None else progress(batches, what, total=len(batches), unit="batch"):
        # On the right, as in training.
        ids = {"input_ids": [list(rows[row]) for row in batch]}
        inputs = tokenizer.pad(ids, padding_side="right", return_tensors="pt")
        with device.autocast():
            scores[batch] = model(**inputs.to(device.device)).logits[:, 0].double().cpu().numpy()
    place = {ids: row for row, ids in enumerate(rows)}
    return scores[[place[ids] for ids in asked]]
