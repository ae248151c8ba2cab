"""A causal language model as one GGUF file, which llama.cpp, Ollama and others run.

The file has what llama.cpp's own `convert_hf_to_gguf.py` writes for these kinds of models: names by the tables of the
package `gguf`, matrices in the type asked for, vectors in float32, the tokenizer and the chat template beside them.

Rotary position embeddings (Su et al. 2021) turn pairs of the dimensions of a head. transformers pairs one of the first
half with one of the second, llama.cpp's Llama pairs neighbours: so the rows of a Llama's query and key matrices are put
in that order. For Qwen llama.cpp pairs as transformers does.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from assay.core.errors import InputError
from assay.language_models.base_template import turn_end

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from tokenizers import Tokenizer

WeightType = Literal["float32", "float16", "bfloat16"]

ARCHITECTURES: Mapping[str, str] = {"llama": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""Kinds of models by their names in transformers, and those in `gguf.MODEL_ARCH`. From one to the other only names
change, and the order that `in_pairs` sees to."""


TYPES: Mapping[WeightType, tuple[str, str]] = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
}
"""Types of weights by PyTorch's names: those among `gguf.GGMLQuantizationType` and `gguf.LlamaFileType`."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Mapping[str, str] = {
    _WORDS.replace("NUMBER", r"\p{N}{1,3}"): "llama-bpe",
    _WORDS.replace("NUMBER", r"\p{N}"): "qwen2",
}
"""Patterns that cut a text before byte pairs are merged, and llama.cpp's names for them."""


OTHERWISE = "; export with --no-gguf, and let llama.cpp's convert_hf_to_gguf.py turn that folder into a file"


def require_writable(config: Any) -> None:
    """Raise an `InputError` unless a model of this configuration can be written."""
    if config.model_type not in ARCHITECTURES:
        raise InputError(f"a {config.model_type} model: known are {', '.join(ARCHITECTURES)}{OTHERWISE}")
    if (rope := config.rope_parameters.get("rope_type", "default")) != "default":
        raise InputError(f"rotary positions scaled by {rope!r}: only unscaled ones are known{OTHERWISE}")
    if getattr(config, "use_sliding_window", False):
        raise InputError(f"attention within a sliding window: only attention to all tokens is known{OTHERWISE}")


def write_gguf(model: Any, tokenizer: PreTrainedTokenizerBase, path: Path, name: str, weights: WeightType) -> None:
    """Write a whole model, its weights in the type asked for, and its tokenizer to a GGUF file.

    `require_writable` lets the model pass. An `InputError` if the file cannot hold its tokenizer or its weights.
    """
    # Imported here: only writing needs it.
    import gguf

    matrices, file_type = TYPES[weights]
    architecture = gguf.MODEL_ARCH[ARCHITECTURES[model.config.model_type]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, model.config)
    _add_tokenizer(writer, tokenizer, model.config.vocab_size)
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    for own_name, tensor in _tensors(model):
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{own_name}: a weight is infinite or no number in {weights}; take --type bfloat16")
        kind = gguf.GGMLQuantizationType[matrices if tensor.dim() > 1 else "F32"]
        new_name = names.get_name(own_name, try_suffixes=(".weight", ".bias"))
        if new_name is None:
            raise InputError(f"{own_name}: a GGUF file of a {model.config.model_type} model has no such weights")
        writer.add_tensor(new_name, gguf.quants.quantize(tensor.detach().float().cpu().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights, in llama.cpp's order of rows; an output layer that shares its weights is not there twice."""
    config = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        layer = name.rsplit(".", 2)[-2]
        is_paired = config.model_type == "llama" and layer in heads
        yield name, in_pairs(tensor, heads[layer]) if is_paired else tensor


def in_pairs(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head so that those that turn together are neighbours.

    They are of a query or key matrix, or its bias, shape `(heads * d, …)`: of each head first those of one half.
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    from gguf import TokenType

    description = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = description["model"].get("merges")
    if description["model"]["type"] != "BPE" or not merges or (description["decoder"] or {}).get("type") != "ByteLevel":
        raise InputError(f"{tokenizer.name_or_path}: its tokenizer is no byte-level BPE{OTHERWISE}")
    by_number = {number: token for token, number in tokenizer.get_vocab().items()}
    if (largest := max(by_number)) >= vocab_size:
        raise InputError(f"{tokenizer.name_or_path}: token {largest} is beyond the model's vocabulary of {vocab_size}")
    added = {token["id"]: token["special"] for token in description["added_tokens"]}
    tokens, kinds = [], []
    for number in range(vocab_size):
        tokens.append(by_number.get(number, f"[PAD{number}]"))
        if number not in by_number:
            kinds.append(TokenType.UNUSED)
        elif number in added:
            kinds.append(TokenType.CONTROL if added[number] else TokenType.USER_DEFINED)
        else:
            kinds.append(TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for token, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (turn_end(tokenizer), writer.add_eot_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if token is not None:
            add(token)
    begins: list[int] = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and begins[0] == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def pre_tokenizer_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """llama.cpp's name for how a tokenizer cuts a text before it merges byte pairs; an `InputError` if unknown."""
    backend: Any = tokenizer.backend_tokenizer
    whole = json.loads(backend.to_str())["pre_tokenizer"] or {}
    parts = whole.get("pretokenizers", [whole])
    match [part.get("type") for part in parts]:
        case ["ByteLevel"] if parts[0]["use_regex"]:
            # What transformers makes of a GGUF file without a pattern of its own. Where the vocabulary has no digit
            # that is joined to anything, cutting digits one by one does the same; llama.cpp then leaves blanks before
            # punctuation alone when it writes text.
            return "gpt-2" if _joins_digits(tokenizer) else "smollm"
        case ["Digits", "ByteLevel"] if parts[0]["individual_digits"] and parts[1]["use_regex"]:
            return "smollm"
        case ["Split", "ByteLevel"] if (pattern := parts[0]["pattern"].get("Regex")) in _SPLITS:
            return _SPLITS[pattern]
    raise InputError(
        f"{tokenizer.name_or_path}: its tokenizer cuts texts in a way that has no name here "
        f"({json.dumps(whole)[:200]}){OTHERWISE}"
    )


def read_tokenizer(file: Path) -> tuple[Tokenizer, str]:
    """The tokenizer that a GGUF file describes, as llama.cpp would build it, and the chat template."""
    import gguf
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    fields = {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}
    tokens, kinds, cut = (fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "pre"))
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut == "llama-bpe"))
    first: list[Any] = [pre_tokenizers.Split(Regex(one), "isolated") for one, name in _SPLITS.items() if name == cut]
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not first)
    first += [pre_tokenizers.Digits(individual_digits=True)] if cut == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, bytes_])
    added = {gguf.TokenType.CONTROL: True, gguf.TokenType.USER_DEFINED: False}
    pairs = [(token, added[kind]) for token, kind in zip(tokens, kinds, strict=True) if kind in added]
    tokenizer.add_tokens([AddedToken(token, special=is_special, normalized=False) for token, is_special in pairs])
    return tokenizer, fields.get("tokenizer.chat_template", "")


def _joins_digits(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a token has a digit and something else."""
    texts = (tokenizer.convert_tokens_to_string([token]) for token in tokenizer.get_vocab())
    return any(len(text) > 1 and any(unicodedata.category(letter)[0] == "N" for letter in text) for text in texts)
