from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from assay.classifiers.checkpoint import new_classifier
from assay.core.errors import InputError
from assay.fine_tuning import adapters
from tests.own_params import COMPUTE
from tests.own_process import run_main
from tests.tools.export.test_merge import LOW_RANK, save_changed
from tools.export import onnx

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")


@pytest.fixture
def models(tmp_path: Path, tiny_encoder: Path) -> Path:
    Path("params.yaml").write_text(yaml.safe_dump({"compute": COMPUTE}))
    Path("data/split").mkdir(parents=True)
    texts = ["good card", "the bank is awful today, and the app is slow", "x", "love my app"]
    pl.DataFrame({"text": texts}).write_parquet("data/split/test.parquet")
    torch.manual_seed(1)
    base, tokenizer = new_classifier(str(tiny_encoder), ["negative", "positive"], "mean")
    save_changed(adapters.lora(base, "SEQ_CLS", LOW_RANK), tokenizer, Path("models/finetuned/lora"))
    return tmp_path


@pytest.mark.slow
def test_an_exported_model_says_the_same(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_main(onnx, "lora")
    assert (models / "models/onnx/lora/model.onnx").is_file()
    assert "at most on 4 test texts" in capsys.readouterr().out


def test_one_that_says_something_else_is_not_kept(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match=r"logits differ by .* the export is not kept"):
        run_main(onnx, "lora")
    assert not (models / "models/onnx/lora").exists()


def test_a_model_that_is_not_there_is_an_error(models: Path) -> None:
    with pytest.raises(InputError, match="no such model of transformers; there are lora"):
        run_main(onnx, "full")
