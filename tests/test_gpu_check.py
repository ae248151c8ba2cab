import time
from pathlib import Path

import pytest
import torch
import yaml

from assay.compute.device import Device
from tests import gpu_check
from tests.pipeline_copy import smoke_params
from tests.template_params import read_template_params

CPU = Device(torch.device("cpu"), torch.float32)


def test_steps_of_each_approach_run_and_what_fails_is_named(
    tiny_encoder: Path, tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = smoke_params(read_template_params())
    params["finetune"]["defaults"] |= {"model": str(tiny_encoder), "batch_size": 4}
    params["language_model"] = str(tiny_chat_model)
    kept = {"finetune": ("defaults", "tfidf", "linear_probe", "ia3"), "sft": ("defaults", "lora", "prefix_tuning")}
    params |= {section: {name: params[section][name] for name in names} for section, names in kept.items()}
    params["finetune"]["ia3"]["model"] = "models/base/absent"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    outcomes = gpu_check.try_approaches(CPU, time.monotonic() + 600)
    assert set(outcomes) == {"finetune@linear_probe", "finetune@ia3", "sft@lora", "sft@prefix_tuning"}
    assert "rows/s, peak " in outcomes["finetune@linear_probe"]
    assert outcomes["finetune@ia3"].startswith("failed: InputError: models/base/absent: no model there")
    assert "s/step of 2 rows" in outcomes["sft@lora"]
    assert "s/step of 4 rows" in outcomes["sft@prefix_tuning"]
    assert set(gpu_check.try_approaches(CPU, 0.0).values()) == {"failed: not run, 600 s are over"}
