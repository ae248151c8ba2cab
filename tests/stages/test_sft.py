import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from pydantic import TypeAdapter

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import folder_sha256, read_json, write_json
from assay.core.skipped import LEFT_OUT_FILE
from assay.fine_tuning.sft_params import Approach
from assay.language_models.chat_template import IGNORED, MESSAGES, TokenisedChat, tokenise_chats
from assay.language_models.checkpoint import load_base, load_causal_lm
from assay.language_models.sft import make_dataset, train_sft
from stages import sft
from tests.own_cases import read_cases
from tests.own_process import run_main, run_python
from tests.policy_workspace import COMPUTE, TRAINER

DEVICE = Device(torch.device("cpu"), torch.float32)
FULL: dict[str, Any] = TRAINER | {"method": "full", "max_length_tokens": 192, "packing": True, "batch_size": 2}
FULL |= {"gradient_accumulation_steps": 1, "max_steps": 6, "num_evaluations": 2, "validation_rows": 8}
FULL |= {"weight_decay": 0.0}
LORA = FULL | {"method": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"}
LORA |= {"rank_stabilised": False, "dora": False, "initialisation": "default"}
PREFIX = FULL | {"packing": False, "num_virtual_tokens": 4}
APPROACHES = {
    "full": FULL,
    "lora": LORA,
    "qlora": {key: value for key, value in LORA.items() if key != "initialisation"}
    | {"method": "qlora", "double_quantisation": True},
    "prompt_tuning": PREFIX | {"method": "prompt_tuning", "initialisation": "words"},
    "prefix_tuning": PREFIX | {"method": "prefix_tuning", "projection_width": None},
    "ia3": FULL | {"method": "ia3", "target_modules": None, "feedforward_modules": None},
}
THINGS = ["permit", "roof", "drain", "invoice", "garden", "wall", "stove", "door", "floor", "paint", "tile", "pipe"]

SCHEMA: dict[str, Any] = {"id": pl.String, "messages": MESSAGES, "without_loss": pl.List(pl.Int64)}


def chats(count: int) -> pl.DataFrame:
    """Questions and answers of different lengths."""
    rows = []
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        question = f"What of the {thing}?" + " Say it all, please." * (number % 3)
        answer = f"The {thing} is done." + f" It took {number} days." * (number % 4)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append({"id": f"faq:{number}", "messages": messages, "without_loss": []})
    return pl.DataFrame(rows, schema=SCHEMA)


def project(folder: Path, model: Path, approach: str, **changes: Any) -> None:
    chats(40).write_parquet(folder / sft.TRAIN, mkdir=True)
    chats(12).write_parquet(folder / sft.VALIDATION)
    block = APPROACHES[approach] | changes
    params = {"seed": 3, "compute": COMPUTE, "language_model": str(model), "template_arguments": {}}
    params |= {"sft": {approach: block}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


Start = Callable[..., dict[str, Any]]
"""Writes a project into a folder below the test's own, runs the stage there, and returns its metrics."""


@pytest.fixture
def start(tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    def run(approach: str, folder: str = ".", **changes: Any) -> dict[str, Any]:
        project(tmp_path / folder, tiny_chat_model, approach, **changes)
        return rerun(monkeypatch, tmp_path / folder, approach)

    return run


def rerun(monkeypatch: pytest.MonkeyPatch, folder: Path, approach: str) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    run_main(sft, approach)
    measured: dict[str, Any] = read_json(sft.METRICS / f"{approach}.json")
    return measured


@pytest.mark.parametrize("approach", APPROACHES)
def test_every_approach_learns_and_is_loaded_again(approach: str, start: Start) -> None:
    measured = start(approach)
    assert measured["validation_loss"] < measured["validation_loss_before"]
    assert 0 < measured["trainable_parameters"] <= measured["total_parameters"]
    assert measured["tokens"] > 0
    assert approach == "full" or read_json(sft.OUTPUT / approach / "adapter_config.json")["task_type"] == "CAUSAL_LM"
    assert not Path("scratch/sft").exists() or not list(Path("scratch/sft").iterdir())

    model, tokenizer = load_causal_lm(sft.OUTPUT / approach, DEVICE.device)
    from assay.language_models.trl_trainer import mean_loss

    held_out = tokenise_chats(tokenizer, pl.read_parquet(sft.VALIDATION)["messages"].to_list())
    # Eight of the twelve rows were evaluated.
    loss = mean_loss(model, held_out, tokenizer.pad_token_id, DEVICE)
    assert loss == pytest.approx(measured["validation_loss"], rel=0.1)
    curve = pl.read_csv(sft.PLOTS / f"{approach}.csv")
    assert curve["step"].to_list() == list(range(7))
    assert curve.filter(pl.col("validation_loss").is_not_null())["step"].to_list() == [0, 3, 6]
    assert curve["loss"].null_count() == 1


def test_the_same_seed_gives_the_same_bytes(start: Start) -> None:
    written = []
    for name in ("first", "second"):
        measured = start("lora", name, dropout=0.1)
        written.append((measured, folder_sha256(sft.OUTPUT / "lora")))
        costs = {"train_seconds", "train_cpu_seconds", "tokens_per_second", "peak_memory_mib", "resumed_at_step"}
        assert set(read_json(sft.COSTS / "lora.json")) == costs
    assert written[0] == written[1]


def losses(params: dict[str, Any], model_folder: Path, folder: Path, rows: pl.DataFrame) -> list[float]:
    """The loss of each step of a training."""
    base, tokenizer = load_base(str(model_folder), DEVICE.device)
    tokens = tokenise_chats(tokenizer, rows["messages"].to_list())
    approach: Any = TypeAdapter(Approach).validate_python(params)
    done = train_sft(approach, base, tokenizer, tokens, tokens[:2], DEVICE, 5, folder, "test")
    return done.steps["loss"].to_list()


NO_ROOM = """
import resource
from tests.stages.test_sft import *
model_folder, folder = map(Path, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
print(losses(FULL, model_folder, folder, chats(24)))
"""


def test_training_goes_on_where_no_checkpoint_can_be_written(tiny_chat_model: Path, tmp_path: Path) -> None:
    expected = losses(FULL, tiny_chat_model, tmp_path / "room", chats(24))
    command = [sys.executable, "-c", NO_ROOM, str(tiny_chat_model), str(tmp_path / "full")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(expected, rel=1e-4)
    assert done.stderr.count("best.pt: cannot be written; memory holds these weights") == 1
    assert done.stderr.count("no room for a checkpoint; training goes on") == 1


def test_packed_chats_have_the_loss_of_padded_ones(tiny_chat_model: Path, tmp_path: Path) -> None:
    rows = chats(24)
    base, tokenizer = load_base(str(tiny_chat_model), DEVICE.device)
    tokens = tokenise_chats(tokenizer, rows["messages"].to_list())
    longest = max(len(chat.input_ids) for chat in tokens)
    # One step over all chats: packed, then padded.
    once = FULL | {"max_steps": 1, "num_evaluations": 1, "max_length_tokens": 2 * longest}
    from trl import pack_dataset

    packs = len(pack_dataset(make_dataset(tokens), 2 * longest, "bfd"))
    assert packs < 24
    packed = losses(once | {"batch_size": packs}, tiny_chat_model, tmp_path / "packed", rows)
    padded = losses(once | {"batch_size": 24, "packing": False}, tiny_chat_model, tmp_path / "padded", rows)
    assert padded == pytest.approx(packed, abs=1e-4)
    with torch.no_grad():
        by_hand, count = 0.0, 0
        for chat in tokens:
            labels = torch.tensor([chat.labels])
            loss = base(input_ids=torch.tensor([chat.input_ids])).logits[0, :-1]
            by_hand += float(torch.nn.functional.cross_entropy(loss, labels[0, 1:], reduction="sum"))
            count += int((labels[0, 1:] != IGNORED).sum())
    # The base was trained in place by neither: each loaded its own.
    assert by_hand / count == pytest.approx(packed[0], abs=1e-4)


def test_a_packed_chat_does_not_see_the_one_before(tiny_chat_model: Path) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model, tokenizer = load_causal_lm(tiny_chat_model, DEVICE.device)
    first, other, second = tokenise_chats(tokenizer, chats(3)["messages"].to_list())
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    logits = []
    for before in (first, other):
        start = TokenisedChat(before.input_ids[:20], before.labels[:20])
        batch = collate([asdict(start), asdict(second)])
        labels = batch.pop("labels")
        assert labels.shape[0] == 1
        with torch.no_grad():
            logits.append(model(**batch, use_cache=False).logits[0, 20:])
    assert first.input_ids[:20] != other.input_ids[:20]
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("approach", "packing", "parts"), [("full", False, 1), ("lora", True, 2)])
def test_two_processes_have_the_loss_curve_of_one(
    approach: str, packing: bool, parts: int, tiny_chat_model: Path, tmp_path: Path
) -> None:
    sizes = {"batch_size": 4, "gradient_accumulation_steps": parts, "max_steps": 5, "num_evaluations": 1}
    curves = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        project(folder, tiny_chat_model, approach, packing=packing, **sizes)
        # Without `--multi_gpu` accelerate starts a single process on processors; port 0 is a free one.
        several = ["--multi_gpu", "--num_processes", str(processes), "--main_process_port", "0"]
        launch = ["-m", "accelerate.commands.launch", *several] if processes > 1 else []
        run_python(*launch, "-m", "stages.sft", approach, cwd=folder, OMP_NUM_THREADS="1")
        assert read_json(folder / sft.METRICS / f"{approach}.json")["processes"] == processes
        curves.append(pl.read_csv(folder / sft.PLOTS / f"{approach}.csv")["loss"].drop_nulls().to_list())
    assert len(curves[0]) == 5
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_the_same(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = start("lora", "whole")
    from assay.language_models import trl_trainer

    evaluate = trl_trainer.mean_loss
    evaluations = 0

    def killed_at_the_third(*arguments: Any) -> float:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(trl_trainer, "mean_loss", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        start("lora", "killed")
    monkeypatch.setattr(trl_trainer, "mean_loss", evaluate)
    (file,) = Path(sft.SCRATCH).glob(f"*/*/{trl_trainer.SPENT_FILE}")
    write_json(file, read_json(file) | {"seconds": 1000.0})
    again = rerun(monkeypatch, tmp_path / "killed", "lora")
    assert read_json(sft.COSTS / "lora.json")["resumed_at_step"] == 3
    assert again["validation_loss"] == whole["validation_loss"]
    # Tokens and seconds are those of both stretches; what the first one had spent is read from beside its checkpoint.
    assert again["tokens"] == whole["tokens"]
    assert read_json(sft.COSTS / "lora.json")["train_seconds"] > 1000
    digests = [folder_sha256(tmp_path / name / sft.OUTPUT / "lora") for name in ("whole", "killed")]
    assert digests[0] == digests[1]


def test_the_weights_kept_are_those_of_the_best_evaluation(start: Start, tiny_chat_model: Path) -> None:
    # A rate at which the model gets worse at once: what is kept is where it began.
    measured = start("full", learning_rate=1.0, max_grad_norm=1000.0, warmup_fraction=0.0)
    assert measured["best_step"] == 0
    assert measured["validation_loss"] == measured["validation_loss_before"]
    kept, _ = load_causal_lm(sft.OUTPUT / "full", DEVICE.device)
    base, _ = load_causal_lm(tiny_chat_model, DEVICE.device)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), base.parameters(), strict=True))


def test_chats_that_are_too_long_are_counted(start: Start) -> None:
    measured = start("full", max_length_tokens=128)
    assert measured["chats_too_long"] > 0
    assert measured["chats_train"] + measured["chats_too_long"] == 40


@pytest.mark.parametrize(("approach", "changes", "message"), read_cases(__file__)["bad_params"])
def test_bad_params(approach: str, changes: dict[str, Any], message: str, start: Start) -> None:
    with pytest.raises(InputError, match=message):
        start(approach, **changes)


def test_a_chat_without_an_answer_is_an_error(
    tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, tiny_chat_model, "full")
    rows = [{"id": "faq:x", "messages": [{"role": "user", "content": "Where?"}], "without_loss": []}]
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(tmp_path / sft.TRAIN)
    with pytest.raises(InputError, match=r"data/instruct/train.parquet: row faq:x has no answer to learn"):
        rerun(monkeypatch, tmp_path, "full")


def test_an_approach_that_cannot_run_is_skipped(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sft, "why_no_4_bit", lambda device: "no arithmetic")
    measured = start("qlora")
    assert measured["left_out"] == read_json(sft.COSTS / "qlora.json")["left_out"] == "no arithmetic"
    assert (sft.OUTPUT / "qlora" / LEFT_OUT_FILE).read_text() == "no arithmetic\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("approach", APPROACHES)
def test_an_approach_trains_on_cuda(approach: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPUTE, "device", "cuda")
    monkeypatch.setitem(COMPUTE, "precision", "bfloat16")
    measured = start(approach)
    assert measured["device"] == "cuda"
    assert measured["validation_loss"] < measured["validation_loss_before"]
