import hashlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from accelerate import DistributedType
from safetensors.torch import load_file

from assay.classifiers import fit
from assay.classifiers.checkpoint import load_classifier, save_classifier
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.report.summary import seed_range
from assay.statistics.predictions import predictions_file, read_predictions
from stages import evaluate, finetune
from tests.own_params import COMPUTE, change
from tests.own_process import run_main, run_python
from tests.template_params import read_template_params

_READ = yaml.safe_load(Path(__file__).with_name("finetune_blocks.yaml").read_text(encoding="utf-8"))
TRAINING: dict[str, Any] = _READ[".training"]
BLOCKS: dict[str, dict[str, Any]] = {name: block for name, block in _READ.items() if not name.startswith(".")}
METHODS = ("linear_probe", "prompt_tuning", "prefix_tuning", "ia3", "lora", "qlora", "full")
for _method in METHODS:
    BLOCKS[f"{_method}_decoder"] = BLOCKS[_method] | {"pooling": "last"}
FROZEN = ("knn", "prompted")
FINE_TUNED = [name for name, block in BLOCKS.items() if "max_epochs" in block]
CLOCK = {"train_seconds", "train_cpu_seconds", "samples_per_second", "tokens_per_second"}
CLOCK |= {"peak_memory_mib", "resumed_at_step"}
TEXTS = {
    "negative": ["awful bank", "hate the slow app", "broken card again"],
    "positive": ["great card", "love my app"],
}


def table(count: int, prefix: str) -> pl.DataFrame:
    random = np.random.default_rng(1)
    rows = []
    for index in range(count):
        label = ("negative", "positive")[index % 2]
        text = f"{random.choice(TEXTS[label])} {random.choice(['today', 'now', 'account', 'money'])}"
        rows.append((f"{prefix}{index}", text, label, label if index % 3 else None))
    made = pl.DataFrame(rows, schema=["id", "text", "label", "reference_label"], orient="row")
    return made.with_columns(split_group="id", source=pl.lit("tweets"))


@pytest.fixture
def workspace(
    tmp_path: Path, tiny_encoder: Path, tiny_decoder: Path, tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Data, params and the tiny encoder, laid out as the pipeline does; the current folder."""
    monkeypatch.chdir(tmp_path)
    blocks = {
        name: block
        | ({"model": str(tiny_decoder if name.endswith("decoder") else tiny_encoder)} if "batch_size" in block else {})
        for name, block in BLOCKS.items()
    }
    blocks["prompted"] |= {"model": str(tiny_chat_model)}
    scoring = {"batch_size": 8, "simulations": 100, "calibration_bins": 10}
    clean = read_template_params()["clean"]
    clean["max_tokens"]["tokenizer"] = str(tiny_encoder / "tokenizer.json")
    params = {"seed": 3, "compute": COMPUTE, "clean": clean, "finetune": blocks, "evaluate": scoring}
    params["template_arguments"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    table(96, "a").drop("reference_label", "source").write_parquet("data/augmented/train.parquet", mkdir=True)
    table(24, "v").write_parquet("data/split/validation.parquet", mkdir=True)
    table(30, "t").write_parquet("data/split/test.parquet")
    return tmp_path


def tree_hash(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.mark.parametrize(
    "approach",
    [pytest.param(name, marks=[pytest.mark.slow] if "_decoder" in name or "lora_" in name else []) for name in BLOCKS],
)
def test_an_approach_trains_and_is_scored(workspace: Path, approach: str) -> None:
    run_main(finetune, approach)
    metrics = read_json(f"metrics/finetune/{approach}.json")
    assert metrics["rows_train"] == 96
    assert (metrics["trainable_parameters"] > 0) == (approach not in FROZEN)
    assert metrics["trainable_parameters"] <= metrics["total_parameters"]
    assert not CLOCK & set(metrics)
    costs = read_json(f"metrics/cost/finetune/{approach}.json")
    assert set(costs) == {*CLOCK, "per_seed"}
    assert costs["train_seconds"] > 0
    assert costs["peak_memory_mib"] > 100
    losses = pl.read_csv(f"metrics/plots/loss/{approach}.csv")
    assert losses["step"].to_list() == list(range(1, metrics["steps"] + 1))
    if "max_epochs" in BLOCKS[approach]:
        quarter = losses.height // 4
        assert losses["loss"].tail(quarter).mean() < losses["loss"].head(quarter).mean()  # type: ignore[operator]
    epochs = pl.read_csv(f"metrics/plots/validation/{approach}.csv")
    assert epochs["macro_f1"].max() == pytest.approx(metrics["validation_macro_f1"], abs=1e-5)
    assert epochs["epoch"][int(epochs["macro_f1"].arg_max() or 0)] == metrics["best_epoch"]

    run_main(evaluate, approach)
    scores = read_json(f"metrics/evaluate/{approach}.json")
    assert 0 <= scores["accuracy_ci95_low"] < scores["accuracy_ci95_high"] <= 1
    # Of 15 rows a label macro-F1 has no interval, and says why.
    assert scores["macro_f1_without_ci95"] == "labels with under 20 test rows: 2"
    assert scores["few_test_rows"] == {"negative": 15, "positive": 15}
    of_git = read_predictions(predictions_file(approach).read_text())
    assert of_git is not None
    assert float((of_git.predicted == of_git.label).mean()) == pytest.approx(scores["accuracy"])
    # The language model of the tests has random weights.
    assert (scores["accuracy"] > 0.8) == (approach not in ("majority", "prompted"))
    predictions = pl.read_parquet(f"data/predictions/{approach}/predictions.parquet")
    assert predictions["id"].to_list() == [f"t{index}" for index in range(30)]
    total = predictions.select(pl.sum_horizontal("probability_negative", "probability_positive")).to_series()
    np.testing.assert_allclose(total.to_numpy(), 1.0)
    assert scores["accuracy"] == pytest.approx((predictions["predicted_label"] == predictions["target_label"]).mean())


TRAINABLE: dict[str, str] = _READ[".trainable"]
HEAD = r"(base_model\.(model\.)?)?(classifier|score)\.(modules_to_save\.default\.)?(weight|bias)"
LINEAR_LAYERS = {
    "encoder": {"query", "key", "value", "dense"},
    "decoder": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
}


def pattern(approach: str) -> str:
    name = approach if approach in TRAINABLE else approach.removesuffix("_decoder").split("_cls")[0]
    name = name if name in TRAINABLE else "lora" if "lora" in name else "_".join(name.split("_")[:2])
    return TRAINABLE.get(name, TRAINABLE["full"]).replace("HEAD", HEAD)


@pytest.mark.slow
def test_saved_folders_give_identical_logits_and_train_what_the_method_says(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[str, torch.Tensor] = {}
    texts = ["great card today", "awful bank", "x"]
    save = save_classifier
    approach = ""

    def keep(model: Any, tokenizer: Any, max_length_tokens: int, folder: Path) -> None:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        of_method = [name for name, _ in model.named_parameters() if re.fullmatch(pattern(approach), name)]
        assert names == of_method
        kind = "decoder" if approach.endswith("decoder") else "encoder"
        layers = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name in names if ".lora_A" in name}
        assert layers in (set(), LINEAR_LAYERS[kind])
        assert bool(layers) == ("lora" in approach)
        assert [name for name in names if re.fullmatch(HEAD, name)] or approach.startswith("full")
        if approach.startswith("full"):
            assert len(names) == len(list(model.parameters()))
        encoded = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            trained[approach] = model.eval()(**encoded).logits.float()
        save(model, tokenizer, max_length_tokens, folder)

    monkeypatch.setattr(fit, "save_classifier", keep)
    for approach in FINE_TUNED:
        change(f"finetune.{approach}", max_epochs=1)
        run_main(finetune, approach)
    reloaded = {}
    for approach in FINE_TUNED:
        model, tokenizer, labels = load_classifier(workspace / "models/finetuned" / approach)
        assert labels == ["negative", "positive"]
        encoded = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            reloaded[approach] = model(**encoded).logits.float()
    # peft saves what the projection gives, which it computes for a batch while it trains, and for one row to save it.
    projected = reloaded.pop("prefix_tuning_projected")
    assert torch.allclose(projected, trained["prefix_tuning_projected"], atol=1e-5)
    assert [name for name in reloaded if not torch.equal(reloaded[name], trained[name])] == []


@pytest.mark.slow
def test_the_same_bytes_for_any_hash_seed(workspace: Path) -> None:
    trees = []
    for hash_seed in ("0", "1"):
        run_python("-m", "stages.finetune", "lora", PYTHONHASHSEED=hash_seed)
        trees.append(tree_hash(workspace / "models/finetuned/lora"))
    assert trees[0] == trees[1]


@pytest.mark.parametrize("approach", ["majority", "tfidf"])
def test_a_baseline_needs_no_pytorch(workspace: Path, approach: str) -> None:
    code = "import sys; from stages import {0}; sys.argv[1:] = [{1!r}]; {0}.main(); assert 'torch' not in sys.modules"
    for stage in ("finetune", "evaluate"):
        run_python("-c", code.format(stage, approach))


@pytest.mark.parametrize("approach", ["tfidf", *FROZEN, *METHODS])
def test_the_same_bytes_again(workspace: Path, approach: str) -> None:
    if approach in METHODS:
        change(f"finetune.{approach}", max_epochs=2)
    trees = []
    for _ in range(2):
        run_main(finetune, approach)
        trees.append(tree_hash(workspace / "models/finetuned" / approach))
        torch.rand(7)
    assert trees[0] == trees[1]


def test_a_decoders_tokenizer_pads_on_the_left_when_it_is_loaded_again(workspace: Path) -> None:
    change("finetune.prompt_tuning_decoder", max_epochs=1)
    run_main(finetune, "prompt_tuning_decoder")
    _, tokenizer, _ = load_classifier(workspace / "models/finetuned/prompt_tuning_decoder")
    assert tokenizer.padding_side == "left"


class InterruptedRunError(Exception):
    pass


def interrupt(approach: str, step: int) -> None:
    """Run `finetune` up to a step."""
    clip, steps = torch.nn.utils.clip_grad_norm_, 0

    def interrupting(*arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == step:
            raise InterruptedRunError
        return clip(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", interrupting)
        with pytest.raises(InterruptedRunError):
            run_main(finetune, approach)


@pytest.mark.slow
@pytest.mark.parametrize("approach", ["full", "lora"])
def test_a_run_that_was_killed_resumes_and_ends_with_the_same_bytes(workspace: Path, approach: str) -> None:
    change("compute", checkpoint_seconds=0.0)
    run_main(finetune, approach)
    expected = tree_hash(workspace / "models/finetuned" / approach)
    metrics = Path(f"metrics/finetune/{approach}.json").read_bytes()
    shutil.rmtree("models")
    interrupt(approach, 27)
    assert not (workspace / "models/finetuned" / approach).exists()
    assert list(workspace.glob("scratch/finetune/*/checkpoint.pt"))
    torch.rand(7)
    run_main(finetune, approach)
    assert tree_hash(workspace / "models/finetuned" / approach) == expected
    assert Path(f"metrics/finetune/{approach}.json").read_bytes() == metrics
    assert read_json(f"metrics/cost/finetune/{approach}.json")["resumed_at_step"] == 26
    assert not list(workspace.glob("scratch/finetune/*"))


def test_a_checkpoint_of_other_params_is_not_used(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []

    def interrupted(*arguments: Any) -> None:
        paths.append(arguments[5].path)
        raise InterruptedRunError

    monkeypatch.setattr("assay.classifiers.fit.fit_seed", interrupted)
    for rate in (0.005, 0.004, 0.005):
        change("finetune.full", learning_rate=rate)
        with pytest.raises(InterruptedRunError):
            run_main(finetune, "full")
    assert paths[0] == paths[2] != paths[1]


def test_several_seeds_are_scored_together(workspace: Path) -> None:
    change("finetune.full", max_epochs=2)
    run_main(finetune, "full")
    alone = tree_hash(workspace / "models/finetuned/full")
    change("finetune.full", seeds=[0, 5, 7])
    run_main(finetune, "full")
    together = {name: value for name, value in tree_hash(workspace / "models/finetuned/full").items() if name in alone}
    assert {name for name, value in alone.items() if value != together[name]} == {"seeds.json"}
    weights = {tree_hash(folder)["model.safetensors"] for folder in workspace.glob("models/finetuned/full/seed_*")}
    assert len({alone["model.safetensors"], *weights}) == 3
    assert list(read_json("metrics/finetune/full.json")["per_seed"]) == ["0", "5", "7"]

    run_main(evaluate, "full")
    scores = read_json("metrics/evaluate/full.json")
    of_seeds = [one["macro_f1"] for one in scores["per_seed"].values()]
    assert scores["seeds"] == len(of_seeds) == 3
    assert scores["macro_f1"] == pytest.approx(np.mean(of_seeds), abs=1e-5)
    spread = seed_range(scores["per_seed"])
    assert (spread["macro_f1_seed_min"], spread["macro_f1_seed_max"]) == (min(of_seeds), max(of_seeds))


def test_without_4_bit_arithmetic_qlora_is_skipped_and_says_why(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bitsandbytes.nn.Linear4bit", None)
    run_main(finetune, "qlora")
    run_main(evaluate, "qlora")
    reason = read_json("metrics/finetune/qlora.json")["left_out"]
    assert reason.startswith("bitsandbytes cannot compute in 4 bits on this cpu: ")
    for file in ("evaluate/qlora", "cost/finetune/qlora"):
        assert read_json(f"metrics/{file}.json")["left_out"] == reason
    assert capsys.readouterr().err.splitlines() == [
        f"finetune@qlora: left out of the comparison: {reason}",
        f"evaluate@qlora: left out of the comparison: {reason}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("approach", ["full", "lora"])
def test_two_processes_train_the_model_of_one(workspace: Path, approach: str) -> None:
    """Without dropout, which each process draws for itself; the sums of gradients differ in their last bits."""
    shutil.copytree(yaml.safe_load(Path("params.yaml").read_text())["finetune"][approach]["model"], "without_dropout")
    config = read_json("without_dropout/config.json")
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    Path("without_dropout/config.json").write_text(json.dumps(config))
    change(f"finetune.{approach}", model="without_dropout", max_epochs=2, learning_rate=0.001)
    if approach == "lora":
        change("finetune.lora", dropout=0.0)
    run_main(finetune, approach)
    name = "model.safetensors" if approach == "full" else "adapter_model.safetensors"
    alone = load_file(f"models/finetuned/{approach}/{name}")
    for interrupted in (False, True):
        change("compute", processes=1, checkpoint_seconds=0.0)
        if interrupted:
            interrupt(approach, 8)
        change("compute", processes=2)
        run_python("-m", "stages.finetune", approach, OMP_NUM_THREADS="1")
        together = load_file(f"models/finetuned/{approach}/{name}")
        assert read_json(f"metrics/finetune/{approach}.json")["processes"] == 2
        assert read_json(f"metrics/cost/finetune/{approach}.json")["resumed_at_step"] == 7 * interrupted
        assert [key for key in alone if not torch.allclose(alone[key], together[key], atol=2e-4)] == []


@pytest.mark.slow
def test_why_another_process_failed_is_said_once(workspace: Path) -> None:
    change("compute", processes=2)
    table(4, "v").with_columns(label=pl.lit("odd")).write_parquet("data/split/validation.parquet")
    said = run_python("-m", "stages.finetune", "full", status=1).stderr
    assert said.count("row v0 has the label 'odd'") == 1


def test_sharded_weights_are_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    # accelerate shards on GPUs only, so here it can but be said that it does.
    monkeypatch.setattr("accelerate.Accelerator", lambda cpu: SimpleNamespace(distributed_type=DistributedType.FSDP))
    with pytest.raises(InputError, match="FSDP: sharded weights cannot be saved here"):
        run_main(finetune, "full")


def test_a_validation_label_without_train_rows_is_an_error(workspace: Path) -> None:
    table(4, "v").with_columns(label=pl.lit("odd")).write_parquet("data/split/validation.parquet")
    with pytest.raises(InputError, match="row v0 has the label 'odd'"):
        run_main(finetune, "majority")


def test_test_rows_without_a_known_label_are_an_error(workspace: Path) -> None:
    run_main(finetune, "majority")
    table(4, "t").with_columns(label=pl.lit("odd"), reference_label=None).write_parquet("data/split/test.parquet")
    with pytest.raises(InputError, match="'odd', which the model does not know; it knows negative, positive"):
        run_main(evaluate, "majority")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("approach", FINE_TUNED)
def test_an_approach_trains_on_cuda_as_on_cpu(workspace: Path, approach: str) -> None:
    accuracy = {}
    for device, precision in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")):
        change("compute", device=device, precision=precision)
        run_main(finetune, approach)
        run_main(evaluate, approach)
        accuracy[device, precision] = read_json(f"metrics/evaluate/{approach}.json")["accuracy"]
    assert accuracy["cuda", "float32"] == pytest.approx(accuracy["cpu", "float32"], abs=0.05)
    # Three of these tiny models with random weights do not get to 0.9 on CPU either.
    assert accuracy["cuda", "bfloat16"] > min(0.9, accuracy["cpu", "float32"] - 0.05)


@pytest.mark.parametrize(
    ("approach", "key", "value", "message"),
    [
        ("full", "pooling", "last", r"`pooling` = 'last', but .* is an encoder \(bert\): write `mean` or `cls`"),
        ("full_decoder", "pooling", "mean", r"`pooling` = 'mean', but .* is a decoder \(llama\): write `last`"),
        ("lora", "target_modules", ["absent"], r"`method: lora` does not go with .*: No modules were targeted"),
        ("linear_probe", "rank", 8, "rank` = 8 is not a known key"),
        ("full", "learning_rate", "2e-5", r"write 2\.0e-5"),
        ("full", "model", "models/base/absent", "models/base/absent: no model there"),
        ("full", "seeds", [1, 1], r"finetune\.full\..*seeds.*twice"),
        ("adapter", None, None, r"finetune\.adapter` is missing.*'full'"),
        pytest.param(
            *("full", None, None, "PyTorch sees no CUDA device"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_settings_that_cannot_be_are_errors(
    workspace: Path, approach: str, key: str | None, value: Any, message: str
) -> None:
    if key is not None:
        change(f"finetune.{approach}", **{key: value})
    elif "CUDA" in message:
        change("compute", device="cuda")
    with pytest.raises(InputError, match=message):
        run_main(finetune, approach)
    assert not (workspace / "models/finetuned" / approach).exists()
