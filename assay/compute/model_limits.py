"""What a model can read (how many positions it has, and which tokens), and what it is read from."""

from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.utils import CONFIG_NAME

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.params import Params

COUNT_FROM_PADDING = ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta", "xmod")
"""Kinds of models whose first position has the number after the padding token's."""

TAKE_POSITIONS = ("max_length_tokens", "max_prompt_tokens", "max_new_tokens", "num_virtual_tokens")
"""Keys of params: tokens of a text, of a prompt and of its answer, and learnt vectors before them."""


def require_positions(config: Any, params: Params, section: str, prompt_tokens: int = 0) -> None:
    """Raise an `InputError` unless a model has positions for all that a section puts into it, after a prompt if any."""
    values, text = params.model_dump(include=set(TAKE_POSITIONS)), config.get_text_config()
    wanted = sum(values.values()) + prompt_tokens
    # Models with relative positions alone have no such limit.
    there = getattr(text, "max_position_embeddings", 0) if getattr(text, "position_biased_input", True) else 0
    there -= text.pad_token_id + 1 if text.model_type in COUNT_FROM_PADDING else 0
    if 0 < there < wanted:
        asked = " and ".join(f"`{section}.{key}` = {values[key]}" for key in TAKE_POSITIONS[:3] if key in values)
        after = f" after a prompt of {prompt_tokens} tokens" * bool(prompt_tokens)
        raise InputError(
            f"params.yaml: {asked}{after} takes {wanted} positions, and {config.name_or_path} has {there} "
            "(`max_position_embeddings`): lower it"
        )


def require_model(folder: Path | str) -> None:
    """Raise an `InputError` unless there is a model in a folder, of a kind that needs no code but transformers'."""
    file = Path(folder) / CONFIG_NAME
    if not file.is_file():
        raise InputError(f"{folder}: no model there (config.json is missing); run `dvc repro fetch` or mend the path")
    values = read_json(file)
    if "auto_map" in values and (kind := values.get("model_type")) not in CONFIG_MAPPING:
        raise InputError(f"{file}: `auto_map` names code of its own, which is not run, and {kind!r} has no other")


def require_safetensors(folder: Path | str) -> None:
    """Raise an `InputError` unless the weights in a folder are safetensors: to load a pickle can run any code."""
    if not any(Path(folder).glob("*.safetensors")):
        pickles = sorted(path.name for path in Path(folder).glob("*.bin"))
        seen = (
            f"its weights are pickled ({pickles[0]}), and may run code when loaded" if pickles else "no weights there"
        )
        raise InputError(f"{folder}: {seen}; put model.safetensors there: `model.save_pretrained(folder)` writes it")


def require_vocabulary(tokenizer: Any, config: Any, model: str) -> None:
    """Raise an `InputError` unless a model has an embedding for every token of its tokenizer."""
    token, largest = max(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    if largest >= (rows := config.get_text_config().vocab_size):
        raise InputError(
            f"{model}: its tokenizer gives {token!r} the number {largest}, and the model has embeddings for {rows} "
            "tokens (`vocab_size`); take the tokenizer that the model was trained with"
        )
