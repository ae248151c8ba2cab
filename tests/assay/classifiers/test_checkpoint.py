"""What stands in a saved folder is loaded as itself, or not at all."""

import ast
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
    pipeline,
)

from assay.classifiers.checkpoint import load_classifier, new_classifier
from assay.core.errors import InputError
from assay.fine_tuning import adapters
from assay.fine_tuning.params import Pooling
from tests.tools.export.test_merge import LABELS, LOW_RANK, TEXTS, save_changed


def logits_of(model: Any, tokenizer: Any) -> torch.Tensor:
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(**encoded).logits
    return logits


@pytest.mark.parametrize("adapter", ["", "lora", "qlora"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_transformers_gives_the_logits_of_a_saved_folder_or_refuses_it_by_name(
    tiny_encoder: Path, tiny_decoder: Path, tmp_path: Path, pooling: Pooling, adapter: str
) -> None:
    torch.manual_seed(1)
    base = tiny_decoder if pooling == "last" else tiny_encoder
    model: Any
    model, tokenizer = new_classifier(str(base), LABELS, pooling, True if adapter == "qlora" else None)
    model = adapters.lora(model, "SEQ_CLS", LOW_RANK) if adapter else model
    save_changed(model, tokenizer, tmp_path)
    expected = logits_of(model, tokenizer)
    loaded, loaded_tokenizer, labels = load_classifier(tmp_path)
    assert labels == LABELS
    assert torch.equal(logits_of(loaded, loaded_tokenizer), expected)
    assert not [path.name for path in tmp_path.iterdir() if path.suffix in (".py", ".bin", ".pt", ".pkl")]
    if pooling == "mean" or adapter:
        for load in (AutoModel, AutoModelForSequenceClassification):
            with pytest.raises(ValueError, match=r"load it by assay\.inference\.load"):
                load.from_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"load it by assay\.inference\.load"):
            pipeline("text-classification", model=str(tmp_path))
        # Told the architecture, transformers does not ask for it.
        with pytest.raises((RuntimeError, OSError)):
            (LlamaForSequenceClassification if pooling == "last" else BertForSequenceClassification).from_pretrained(
                tmp_path
            )
        if adapter and pooling == "mean":
            with pytest.raises(ValueError, match=r"load it by assay\.inference\.load"):
                peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path)
        return
    said: Any = pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None, function_to_apply="none")
    found = [[{one["label"]: one["score"] for one in row}[label] for label in LABELS] for row in said(TEXTS)]
    assert torch.allclose(torch.tensor(found), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.safetensors": "pytorch_model.bin"}, r"its weights are pickled \(pytorch_model.bin\)"),
        ({"model.safetensors": "weights"}, "no weights there"),
    ],
)
def test_pickled_weights_are_refused(tiny_encoder: Path, tmp_path: Path, files: dict[str, str], message: str) -> None:
    for path in tiny_encoder.iterdir():
        (tmp_path / files.get(path.name, path.name)).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=message):
        new_classifier(str(tmp_path), LABELS, "mean")


def test_a_folder_with_code_of_its_own_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_encoder / "config.json").read_text()) | {"auto_map": {"AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="`auto_map` names code of its own, which is not run"):
        load_classifier(tmp_path)


def test_no_loader_runs_remote_code_or_reads_pickled_weights(repository: Path) -> None:
    seen = 0
    for path in [path for top in ("assay", "stages", "tools") for path in (repository / top).rglob("*.py")]:
        for call in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]:
            loader = ast.unparse(call.func)
            if loader.endswith(".from_pretrained") and "peft" not in loader:
                given = {one.arg: ast.unparse(one.value) for one in call.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"
                assert "Config" in loader or "Tokenizer" in loader or given.keys() & {"use_safetensors", "gguf_file"}
                seen += 1
    assert seen > 10
