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
    Qwen2Config,
    Qwen3Config,
)

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.language_models.chat_template import MESSAGES
from assay.language_models.checkpoint import load_causal_lm, save_causal_lm
from tests.own_process import run_main
from tests.policy_workspace import COMPUTE, CPU, GREEDY, move_trainable
from tools.export import language_model
from tools.export.gguf import in_pairs, pre_tokenizer_name

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["How long does a building permit take in 2024?", "The municipality's decision takes ten weeks.", "Who pays?"]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"intermediate_size": 64, "max_position_embeddings": 256, "initializer_range": 0.2}


def byte_pairs(pre_tokenizer: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and a few pairs of them, learnt from a few texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    fast.chat_template = TEMPLATE
    return fast


def digits() -> Any:
    """The way of SmolLM2 to cut a text."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])


def qwen_split() -> Any:
    """The way of Qwen."""
    from tokenizers import Regex

    cut = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def new_model(kind: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A small model with random weights, biases included."""
    torch.manual_seed(0)
    ends: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    ends["vocab_size"] = len(tokenizer)
    configs = {
        "llama": LlamaConfig(**SHAPE, **ends, tie_word_embeddings=True),
        "qwen2": Qwen2Config(**SHAPE, **ends, tie_word_embeddings=False),
        "qwen3": Qwen3Config(**SHAPE, **ends, head_dim=16, tie_word_embeddings=True),
        "gpt2": GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=256, **ends),
    }
    model: PreTrainedModel = AutoModelForCausalLM.from_config(configs[kind])  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
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
    for kind, cut in (("llama", digits()), ("qwen2", qwen_split()), ("qwen3", qwen_split()), ("gpt2", digits())):
        tokenizer = byte_pairs(cut)
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


def test_an_adapter_is_merged_and_both_files_say_the_same(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("sft@lora", "--type", "float32")

    out = Path("models/export/sft-lora")
    found = read_json(out / "export.json")
    assert found["logit_difference_from_trained"] < 1e-4
    assert found["gguf_logit_difference"] < 1e-4
    assert found["questions"] == found["answers_as_trained"] == found["gguf_answers_same"] == 2
    assert "adapter_config.json" not in {file.name for file in out.iterdir()}
    merged, _ = load_causal_lm(out, CPU)
    base, _ = load_causal_lm(Path("models/sft/llama"), CPU)
    ids = torch.tensor([[1, 5, 40, 7]])
    with torch.no_grad():
        assert (merged(input_ids=ids).logits - base(input_ids=ids).logits).abs().max() > 0.1
    assert (out / "Modelfile").read_text().startswith('FROM ./model.gguf\nPARAMETER stop "<|im_end|>"\n')
    assert "read back, a logit differs" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("weights", ["float32", "float16", "bfloat16"])
def test_every_known_kind_and_type_is_read_back_as_it_was(workspace: Path, kind: str, weights: str) -> None:
    run(f"sft@{kind}", "--type", weights)

    out = Path(f"models/export/sft-{kind}")
    assert read_json(out / "export.json")["gguf_logit_difference"] < 1e-5
    tensors = load_file(out / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{weights}"}


def test_the_file_has_the_tokenizer_and_the_chat_template(workspace: Path) -> None:
    from gguf import GGUFReader

    run("sft@llama")

    file = Path("models/export/sft-llama/model.gguf")
    fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.ggml.eos_token_id"] == 2
    assert fields["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    own = AutoTokenizer.from_pretrained("models/sft/llama")
    read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS:
        assert read(text)["input_ids"] == own(text)["input_ids"]


def test_another_kind_of_model_is_exported_without_gguf(workspace: Path) -> None:
    with pytest.raises(InputError, match="a gpt2 model: known are llama, qwen2, qwen3; export with --no-gguf"):
        run("sft@gpt2")
    run("sft@gpt2", "--no-gguf")
    assert not list(Path("models/export/sft-gpt2").glob("*.gguf"))
    assert "gguf_logit_difference" not in read_json("models/export/sft-gpt2/export.json")


def test_a_file_that_says_something_else_is_not_kept(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("sft@llama")
    monkeypatch.setattr("tools.export.gguf.in_pairs", lambda rows, heads: rows)
    before = Path("models/export/sft-llama/model.gguf").read_bytes()

    with pytest.raises(InputError, match=r"model\.gguf does not say what the safetensors say: a logit differs by"):
        run("sft@llama")
    assert Path("models/export/sft-llama/model.gguf").read_bytes() == before


@pytest.mark.parametrize("wrong", ["merges", "token_type", "template"])
def test_a_file_with_another_tokenizer_or_template_is_not_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    from gguf import GGUFWriter

    changes: dict[str, tuple[str, Any]] = {
        "merges": ("add_token_merges", lambda merges: merges[:3]),
        "token_type": ("add_token_types", lambda kinds: [1] * len(kinds)),
        "template": ("add_chat_template", lambda template: template + " "),
    }
    name, change = changes[wrong]
    add = getattr(GGUFWriter, name)
    monkeypatch.setattr(GGUFWriter, name, lambda self, value: add(self, change(value)))
    message = "has another chat template than the model" if wrong == "template" else r"cuts .* into other tokens: \["
    with pytest.raises(InputError, match=message):
        run("sft@llama")
    assert not Path("models/export/sft-llama").exists()


def test_infinite_weights_are_named(workspace: Path) -> None:
    model, tokenizer = load_causal_lm(Path("models/sft/llama"), CPU)
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    save_causal_lm(model, tokenizer, Path("models/sft/large"))

    with pytest.raises(InputError, match=r"model\.norm\.weight: a weight is infinite .* take --type bfloat16"):
        run("sft@large")
    with pytest.raises(InputError, match=r"a logit of the export differs by nan from .* --type float32"):
        run("sft@large", "--no-gguf")
    assert not Path("models/export/sft-large").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sft@prompt_tuning", "prompt_tuning puts vectors before the text and changes no weights"),
        ("sft@nothing", "sft@nothing: no model in models/sft/nothing; there are sft-lora, sft@gpt2"),
        ("sft@lora", "dvc repro instruct_data"),
    ],
)
def test_what_cannot_be_exported(model: str, message: str, workspace: Path) -> None:
    if model == "sft@lora":
        Path("data/instruct/test.parquet").unlink()
    with pytest.raises(InputError, match=message):
        run(model)
    assert not Path("models/export").exists() or not list(Path("models/export").iterdir())


def test_rows_of_each_head_become_neighbours() -> None:
    # Two heads of four rows: the first half turns with the second.
    rows = torch.arange(8)[:, None]
    assert in_pairs(rows, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_way_to_cut_texts_without_a_name_is_an_error() -> None:
    cuts = [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = byte_pairs(pre_tokenizers.Sequence(cuts))
    with pytest.raises(InputError, match="cuts texts in a way that has no name here"):
        pre_tokenizer_name(tokenizer)
