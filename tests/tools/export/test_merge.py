import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from huggingface_hub import DatasetCard, ModelCard

from assay.classifiers.checkpoint import load_classifier, new_classifier, save_classifier
from assay.core.errors import InputError
from assay.fine_tuning import adapters
from assay.fine_tuning.params import Ia3Adapter, LearntPrompt, LowRankAdapter
from tests.own_cases import read_cases
from tests.own_params import COMPUTE
from tests.own_process import run_main
from tests.policy_workspace import move_trainable
from tools.export import merge

LOW_RANK = LowRankAdapter(rank=4, alpha=8, dropout=0.0, target_modules="all-linear", rank_stabilised=False, dora=False)
IA3 = Ia3Adapter(method="ia3", target_modules=None, feedforward_modules=None)
PROMPT = LearntPrompt(method="prompt_tuning", num_virtual_tokens=3, initialisation="words")
LABELS = ["negative", "positive"]
TEXTS = ["good card", "the bank is awful today", "x", "love my app"]


def save_changed(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save an adapter that changes something."""
    move_trainable(model, 0.1)
    save_classifier(model, tokenizer, 32, folder)


@pytest.fixture
def models(tmp_path: Path, tiny_encoder: Path) -> Path:
    """Adapters that change something, a plain model, and a test split."""
    evaluation = {"batch_size": 2, "simulations": 100, "calibration_bins": 10}
    params = {"compute": COMPUTE, "evaluate": evaluation}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("data/split").mkdir(parents=True)
    test = pl.DataFrame({"id": list("abcd"), "text": TEXTS, "label": (LABELS * 2)})
    test.with_columns(reference_label=pl.lit(None, pl.String)).write_parquet("data/split/test.parquet")
    torch.manual_seed(1)
    for name, double_quantisation in (("lora", None), ("ia3", None), ("prompt_tuning", None), ("qlora", True)):
        base, tokenizer = new_classifier(str(tiny_encoder), LABELS, "mean", double_quantisation)
        if name == "ia3":
            model = adapters.ia3(base, "SEQ_CLS", IA3)
        elif name == "prompt_tuning":
            model = adapters.prompt_tuning(base, "SEQ_CLS", PROMPT)
        else:
            model = adapters.lora(base, "SEQ_CLS", LOW_RANK)
        save_changed(model, tokenizer, Path("models/finetuned") / name)
    plain, tokenizer = new_classifier(str(tiny_encoder), LABELS, "cls")
    save_classifier(plain, tokenizer, 32, Path("models/finetuned/full"))
    return tmp_path


@pytest.mark.parametrize("approach", ["lora", "ia3"])
def test_a_merged_model_is_plain_and_says_the_same(
    models: Path, capsys: pytest.CaptureFixture[str], approach: str
) -> None:
    run_main(merge, approach)
    folder = models / "models/merged" / approach
    found = json.loads((folder / "merge.json").read_text())
    assert found["largest_logit_difference"] < 1e-5
    assert found["predictions_changed"] == 0
    assert "a plain model; largest difference of a logit" in capsys.readouterr().out
    assert not list(folder.glob("adapter*"))
    assert ModelCard.load(folder / "MODEL_CARD.md").data.library_name == "transformers"
    assert DatasetCard.load(folder / "DATA_CARD.md").data.license == "unknown"
    model, tokenizer, labels = load_classifier(folder)
    assert labels == LABELS
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits
    assert logits.shape == (4, 2)


def test_qlora_is_merged_into_full_precision_and_the_difference_is_told(models: Path) -> None:
    run_main(merge, "qlora")
    folder = models / "models/merged/qlora"
    assert 1e-5 < json.loads((folder / "merge.json").read_text())["largest_logit_difference"] < 1
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())["classifier"]


@pytest.mark.parametrize(("approach", "moved", "allowed"), [("lora", 0.1, "0.001"), ("qlora", 10.0, "1")])
def test_a_merged_model_that_says_something_else_is_not_kept(
    models: Path, monkeypatch: pytest.MonkeyPatch, approach: str, moved: float, allowed: str
) -> None:
    merge_adapter = merge.merged

    def merged_wrongly(folder: Path) -> Any:
        model: Any
        model, tokenizer = merge_adapter(folder)
        with torch.no_grad():
            model.classifier.bias[0] += moved
        return model, tokenizer

    monkeypatch.setattr(merge, "merged", merged_wrongly)
    with pytest.raises(InputError, match=rf"differs by .*, more than {allowed}, .*the merged model is not kept"):
        run_main(merge, approach)
    assert not list((models / "models/merged").glob("*"))


@pytest.mark.parametrize(("approach", "message"), read_cases(__file__)["what_cannot_be_merged_says_why"])
def test_what_cannot_be_merged_says_why(models: Path, approach: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_main(merge, approach)
    assert not (models / "models/merged").exists()
