"""Tiny models with random weights, real in every other way: what tests and `make unchanged` run on."""

from pathlib import Path
from typing import Any

WORDS = (
    "the a an i you it is was not and or but of to in for with on my your card account money bank transfer good bad "
    "great awful love hate movie phone screen battery works broken today never always again time arrived late early "
    "help please why how can what when where does did do have has had this that very really so too much more one two "
    "fee rate cash app pin code email url number support happy sad slow fast cheap price refund charge payment"
)
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
SIZES["initializer_range"] = 0.1  # so that a text shows in its vectors, though nothing was learnt
LLAMA: dict[str, Any] = SIZES | {"num_attention_heads": 4, "num_key_value_heads": 2}


def write_tiny_encoder(folder: Path) -> None:
    """Write a real BERT of 2 layers and 32 dimensions, random weights, and a WordPiece tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(set(WORDS.split()))]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), num_attention_heads=2, max_position_embeddings=128, **SIZES)
    BertModel(config).save_pretrained(folder)


def write_tiny_decoder(folder: Path, tiny_encoder: Path) -> None:
    """Write a real Llama of 2 layers and 32 dimensions, random weights, with the tokenizer of `tiny_encoder`."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **LLAMA)
    LlamaModel(config).save_pretrained(folder)


def write_tiny_chat_model(folder: Path) -> None:
    """Write a real Llama for chats: 2 layers, 32 dimensions, random weights, a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bytes_only,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    special_ids: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": True}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **LLAMA, **special_ids)
    LlamaForCausalLM(config).save_pretrained(folder)
