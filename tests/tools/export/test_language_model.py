from pathlib import Path
from typing import Any

import peft
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.language_models.chat_template import MESSAGES
from assay.language_models.checkpoint import load_causal_lm, save_causal_lm
from tests.own_cases import read_cases
from tests.own_process import run_main
from tests.policy_workspace import COMPUTE, CPU, GREEDY, move_trainable
from tools.export import language_model
from tools.export.merge import merge_adapter

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["How long does a building permit take in 2024?", "The municipality's decision takes ten weeks.", "Who pays?"]
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"intermediate_size": 64, "max_position_embeddings": 256, "initializer_range": 0.2}


def byte_pairs() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and a few pairs of them, learnt from a few texts; it cuts texts as that of SmolLM2 does."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    fast.chat_template = TEMPLATE
    return fast


def new_model(kind: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A small model with random weights."""
    torch.manual_seed(0)
    ends: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    ends["vocab_size"] = len(tokenizer)
    configs = {
        "llama": LlamaConfig(**SHAPE, **ends, tie_word_embeddings=True),
        "gpt2": GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=256, **ends),
    }
    model: PreTrainedModel = AutoModelForCausalLM.from_config(configs[kind])  # type: ignore[no-untyped-call]
    return model


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Params, test questions, and models under `models/sft`: whole ones, an adapter and a learnt prompt."""
    models = {"language_model": "models/sft/llama", "generation_models": {"sft-lora": "models/sft/lora"}}
    params = {"compute": COMPUTE, "decoding": GREEDY, "template_arguments": {}, **models}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("data/instruct").mkdir(parents=True)
    chats = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}] for text in TEXTS]
    rows = {"id": ["a", "b", "c"], "task": ["answer", "unanswerable", "label"], "messages": chats}
    pl.DataFrame(rows, schema_overrides={"messages": MESSAGES}).write_parquet("data/instruct/test.parquet")
    for kind in ("llama", "gpt2"):
        tokenizer = byte_pairs()
        save_causal_lm(new_model(kind, tokenizer), tokenizer, Path("models/sft") / kind)
    base = "models/sft/llama"
    adapters = {
        "lora": peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear"),
        "prompt_tuning": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    }
    for name, config in adapters.items():
        model, its_tokenizer = load_causal_lm(Path(base), CPU)
        adapted = peft.get_peft_model(model, config)
        move_trainable(adapted, 0.1)
        save_causal_lm(adapted, its_tokenizer, Path("models/sft") / name)
    return tmp_path


def run(*arguments: str) -> None:
    run_main(language_model, *arguments)


def test_an_adapter_is_merged_and_read_back(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("sft@lora", "--type", "float32")

    out = Path("models/export/sft-lora")
    found = read_json(out / "export.json")
    assert found["logit_difference_from_trained"] < 1e-4
    assert found["questions"] == found["answers_as_trained"] == 2
    assert "adapter_config.json" not in {file.name for file in out.iterdir()}
    merged, _ = load_causal_lm(out, CPU)
    base, _ = load_causal_lm(Path("models/sft/llama"), CPU)
    ids = torch.tensor([[1, 5, 40, 7]])
    with torch.no_grad():
        assert (merged(input_ids=ids).logits - base(input_ids=ids).logits).abs().max() > 0.1
    assert merged.config.eos_token_id == 2
    assert "2 of 2 greedy answers are the same" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("weights", ["float32", "float16", "bfloat16"])
def test_weights_and_tokenizer_are_written_as_asked_for(workspace: Path, kind: str, weights: str) -> None:
    run(f"sft@{kind}", "--type", weights)

    out = Path(f"models/export/sft-{kind}")
    tensors = load_file(out / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{weights}"}
    own, read = (AutoTokenizer.from_pretrained(folder) for folder in (f"models/sft/{kind}", out))
    assert read.chat_template == own.chat_template
    assert [read(text)["input_ids"] for text in TEXTS] == [own(text)["input_ids"] for text in TEXTS]


def test_an_export_that_says_something_else_is_not_kept(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("sft@lora")
    before = Path("models/export/sft-lora/model.safetensors").read_bytes()

    def merge_wrongly(model: Any, folder: Path) -> PreTrainedModel:
        merged: PreTrainedModel = merge_adapter(model, folder)
        merged.get_output_embeddings().weight.data *= -3  # type: ignore[no-untyped-call]
        return merged

    monkeypatch.setattr(language_model, "merge_adapter", merge_wrongly)
    with pytest.raises(InputError, match=r"models/sft/lora: a logit of the export differs by .* 1\.0 is the most"):
        run("sft@lora")
    assert Path("models/export/sft-lora/model.safetensors").read_bytes() == before


def test_infinite_weights_are_an_error(workspace: Path) -> None:
    model, tokenizer = load_causal_lm(Path("models/sft/llama"), CPU)
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    save_causal_lm(model, tokenizer, Path("models/sft/large"))

    with pytest.raises(InputError, match=r"a logit of the export differs by nan from .* --type float32"):
        run("sft@large")
    assert not Path("models/export/sft-large").exists()


@pytest.mark.parametrize(("model", "message"), read_cases(__file__)["what_cannot_be_exported"])
def test_what_cannot_be_exported(model: str, message: str, workspace: Path) -> None:
    if model == "sft@lora":
        Path("data/instruct/test.parquet").unlink()
    with pytest.raises(InputError, match=message):
        run(model)
    assert not Path("models/export").exists() or not list(Path("models/export").iterdir())
