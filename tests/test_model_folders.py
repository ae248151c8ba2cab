"""Code that stands in a folder of a model never runs, whatever loads it: it is ignored, or refused in a line."""

import contextlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from sklearn.dummy import DummyClassifier

from assay.classifiers.baselines import load_baseline, save_baseline
from assay.classifiers.checkpoint import load_classifier, new_classifier, save_classifier
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.fine_tuning import adapters
from assay.language_models.checkpoint import load_base, load_causal_lm, save_causal_lm
from tests.tools.export.test_merge import LABELS, LOW_RANK

CPU = torch.device("cpu")


def save(kind: str, base: Path, folder: Path) -> None:
    """Put a folder of a kind there, made of a base; a base as it is."""
    if kind == "baseline":
        folder.mkdir()
        save_baseline(DummyClassifier(strategy="prior").fit(LABELS, LABELS), folder)
    elif kind == "soft prompt":
        model, tokenizer = load_base(str(base), CPU)
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
        save_causal_lm(peft.get_peft_model(model, config), tokenizer, folder)
    elif kind in ("classifier", "adapter"):
        classifier, tokenizer = new_classifier(str(base), LABELS, "cls")
        adapted = adapters.lora(classifier, "SEQ_CLS", LOW_RANK) if kind == "adapter" else classifier
        save_classifier(adapted, tokenizer, 32, folder)
    else:
        shutil.copytree(base, folder)


def embed(folder: Path) -> None:
    params = EmbedParams(model=str(folder), max_length_tokens=16, batch_size=2, last_layers=1)
    embedded_texts(["a card"], params, Device(CPU, torch.float32))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "encoder": lambda folder: new_classifier(str(folder), LABELS, "mean"),
    "sentence encoder": embed,
    "language model": lambda folder: load_causal_lm(folder, CPU),
    "classifier": load_classifier,
    "adapter": load_classifier,
    "soft prompt": lambda folder: load_causal_lm(folder, CPU),
    "baseline": load_baseline,
}
CODE = r"^.+: `auto_map` names code of its own, which is not run.+$"
PICKLES = r"^.+: its weights are pickled \(adapter_model\.bin\).+$"
REFUSED = dict.fromkeys([(kind, "pickles") for kind in LOADERS if kind != "baseline"], PICKLES)
REFUSED |= dict.fromkeys([(kind, "kind") for kind in ("encoder", "sentence encoder", "language model")], CODE)
REFUSED |= dict.fromkeys([(kind, plant) for kind in ("classifier", "adapter") for plant in ("code", "kind")], CODE)


class Planted:
    """Whoever runs what pickles say makes a file of this."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("plant", ["code", "kind", "pickles", "pickles beside"])
@pytest.mark.parametrize("kind", LOADERS)
def test_planted_code_never_runs(
    kind: str, plant: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = request.getfixturevalue("tiny_chat_model" if kind in ("language model", "soft prompt") else "tiny_encoder")
    folder, marker = tmp_path / "model", tmp_path / "marker"
    save(kind, base, folder)
    monkeypatch.syspath_prepend(folder)
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "model.joblib", "baseline.pkl"):
        (folder / name).write_bytes(pickle.dumps(Planted(marker)))
    for file in folder.glob("*.safetensors") if (kind, plant) in REFUSED and plant == "pickles" else ():
        file.unlink()
    if plant in ("code", "kind"):
        parts = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
        named: Any = {"auto_map": dict.fromkeys(parts, "own.Own") | {"AutoTokenizer": ["own.Own", "own.Own"]}}
        named |= {"model_type": "own"} if plant == "kind" else {}
        prompt: Any = {
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": "a",
            "tokenizer_name_or_path": str(folder),
        }
        prompt |= {"tokenizer_kwargs": {"trust_remote_code": True}}
        adapter: Any = {"auto_mapping": {"parent_library": "own", "base_model_class": "Own"}}
        adapter |= prompt if kind == "soft prompt" else {"megatron_config": {"a": 1}, "megatron_core": "own"}
        for name, values in {"config": named, "tokenizer_config": named, "adapter_config": adapter}.items():
            if (file := folder / f"{name}.json").is_file():
                file.write_text(json.dumps(json.loads(file.read_text()) | values))
    message = REFUSED.get((kind, plant))
    with pytest.raises(InputError, match=message) if message else contextlib.nullcontext():
        LOADERS[kind](folder)
    assert not marker.exists()
