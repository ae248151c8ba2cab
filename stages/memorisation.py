"""Measure whether a fine-tuned model memorises personal data: `python -m stages.memorisation <approach>`.

Canaries are planted among the chats of `data/instruct/train.parquet`, each as often as `memorisation.repetitions` says,
and the base is fine-tuned as `sft` does, by its block `sft.<approach>`: once with canaries as written, once redacted by
the rules of `clean`. Writes metrics, and no model; docs/generation.md says what they mean. Unlike `sft`, it trains one
epoch, so that a canary planted r times is seen r times: on the canaries and `memorisation.chats` other chats, less
those that fill no batch. The loss on `validation.parquet` is taken before and after it; the better model is scored.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
import torch
from pydantic import Field

from assay.cleaning.rules import CleanParams
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import discard
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.fine_tuning.params import adapted
from assay.fine_tuning.quantization import why_no_4_bit
from assay.fine_tuning.sft_params import Approach, Qlora, Training
from assay.instruction_data.cleaning import apply_clean_rules
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import TokenisedChat, tokenise_chats
from assay.language_models.checkpoint import CausalLM, load_base
from assay.language_models.sft import fit_metrics, make_dataset, read_chats, train_sft
from assay.memorisation.canaries import chance_exposure, make_canaries, score_canaries

TRAIN, VALIDATION = Path("data/instruct/train.parquet"), Path("data/instruct/validation.parquet")
METRICS = Path("metrics/ablation/memorisation")
SCRATCH = Path("scratch/memorisation")


class MemorisationParams(Params):
    """Section `memorisation`."""

    repetitions: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1, max_length=8)]
    canaries: int = Field(ge=1, le=50)
    candidates: int = Field(ge=15, le=4095)
    chats: int = Field(ge=1)
    batch_size: int = Field(ge=1)


def redact(texts: Sequence[str], clean: CleanParams, source: str) -> list[str]:
    """Texts as the rules of `clean` that redact leave them in chats of a source."""
    only = {name: where for name, where in clean.rules.items() if name.startswith("redact_")}
    rows = pl.DataFrame({"id": map(str, range(len(texts))), "source": [source] * len(texts), "text": texts})
    return list(apply_clean_rules(rows, clean.model_copy(update={"rules": only})).texts)


def count_rows(chats: list[TokenisedChat], params: Training) -> int:
    """Rows of a training: packs of chats, or the chats themselves."""
    from trl import pack_dataset

    return len(pack_dataset(make_dataset(chats), params.max_length_tokens, "bfd") if params.packing else chats)


def main() -> None:
    """Measure the memorisation of the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.memorisation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a block under `sft` in params.yaml, such as lora")
    approach = parser.parse_args().approach
    seed, own = load_params("seed", int), load_params("memorisation", MemorisationParams)
    params: Approach = load_params(f"sft.{approach}", Approach)  # type: ignore[arg-type]
    base, clean = load_params("language_model", str), load_params("clean", CleanParams)
    arguments = load_params("template_arguments", TemplateArguments)
    device = prepare_device(load_params("compute", Compute))
    file, what = METRICS / f"{approach}.json", f"memorisation@{approach}"
    if isinstance(params, Qlora) and (reason := why_no_4_bit(device.device)):
        print(f"{what}: skipped: {reason}")
        write_metrics(file, {"left_out": reason})
        return
    quiet_libraries()
    canaries = make_canaries(own.repetitions, own.canaries, own.candidates, generator(seed, "memorisation"))
    written = [canary.answers[0] for canary in canaries]
    redacted = redact(written, clean, pl.read_parquet(TRAIN, columns=["source"])["source"].mode().sort()[0])
    left = sum(map(str.__eq__, written, redacted))
    print(f"{what}: {len(canaries)} canaries, {left} that no rule redacts; {written[0]!r} becomes {redacted[0]!r}")
    quantised = params.double_quantisation if isinstance(params, Qlora) else None
    own_seed = derived_seed(seed, "memorisation", approach)
    models: dict[str, dict[str, object]] = {}
    for name, answers in {"base": None, "as_written": written, "redacted": redacted}.items():
        torch.manual_seed(own_seed)
        model: CausalLM
        model, tokenizer = load_base(base, device.device, quantised, arguments)
        models[name] = {}
        if answers is not None:
            model = adapted(params, model, "CAUSAL_LM")
            model = model if quantised is not None else model.to(device.device)
            train, held_out = (read_chats(path, tokenizer, params.max_length_tokens)[0] for path in (TRAIN, VALIDATION))
            sampled = generator(seed, "memorisation", "chats").permutation(len(train))[: own.chats]
            chats = [
                [{"role": "user", "content": canary.question}, {"role": "assistant", "content": answer}]
                for canary, answer in zip(canaries, answers, strict=True)
                for _ in range(canary.repetitions)
            ]
            train = tokenise_chats(tokenizer, chats) + [train[row] for row in sampled]
            while train and (rows := count_rows(train, params)) % params.batch_size:
                train.pop()
            if len(train) < len(chats) or max(len(one.input_ids) for one in train) > params.max_length_tokens:
                raise InputError("params.yaml: canaries do not fit; raise `memorisation.chats` or `max_length_tokens`")
            fitted = params.model_copy(update={"max_steps": rows // params.batch_size, "num_evaluations": 1})
            scratch = SCRATCH / approach
            discard(scratch)  # of a run that was killed
            held_out = held_out[: params.validation_rows]
            done = train_sft(fitted, model, tokenizer, train, held_out, device, own_seed, scratch, f"{what}: {name}")
            discard(scratch)
            epochs = done.tokens / sum(len(chat.input_ids) for chat in train)
            seen = {"chats": len(train), "planted": len(chats), "steps": fitted.max_steps, "epochs": epochs}
            models[name] = {**seen, **fit_metrics(done, model)}
        found = score_canaries(model.eval(), tokenizer, canaries, own.batch_size, device, f"{what}: {name}")
        models[name] |= found
    bounds = {"max_exposure": math.log2(own.candidates + 1), "chance_exposure": chance_exposure(own.candidates + 1)}
    counts = {"canaries": len(canaries), "not_redacted": left, "candidates": own.candidates}
    shown = [f"models.{name}.repeated.{count}.exposure" for name in models for count in own.repetitions]
    write_metrics(file, {**counts, **bounds, "models": models}, *shown)


if __name__ == "__main__":
    run_stage(main)
