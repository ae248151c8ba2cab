"""What stands in a saved folder is loaded as itself, or not at all."""

import ast
import shutil
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


def test_a_folder_without_weights_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "base").joinpath("model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights there"):
        new_classifier(str(tmp_path / "base"), LABELS, "mean")


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
