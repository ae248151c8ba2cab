"""Search the settings of an approach on validation, and write the best into `params.yaml`.

`make tune APPROACH=lora` tries settings out of the space that `tools/experiments/tune.yaml` declares, chosen one after
the other by Optuna's TPE sampler (Bergstra et al. 2011) from what the trials before brought. The score is the
validation macro-F1 in `metrics/finetune/<approach>.json`, in the mean over the approach's seeds; the test split is not
looked at.

Each trial is a DVC experiment, run apart from the working tree, by the name of `tune-<approach>-<number>`. The winner's
settings go into `params.yaml` with where they came from, as a difference to be reviewed: nothing is committed. If no
trial beats the settings that are there, they stay. A trial that fails is printed, and the search goes on.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import dvc.api
import optuna
import yaml
from pydantic import Field, model_validator

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.core.params import PARAMS_FILE, Params, load_params
from assay.core.seeds import derived_seed, seed_32
from assay.fine_tuning.params import Approach, Training
from tools.params.preset import node_at, replace_values

SPACES = Path("tools/experiments/tune.yaml")
METRICS = Path("metrics/finetune")
SCORE = "validation_macro_f1"


class Range(Params):
    """Numbers from `low` to `high`."""

    low: float
    high: float
    log: bool

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} must be below high {self.high}, and above 0 with `log: true`")
        return self


class Choices(Params):
    """Some values."""

    choices: Annotated[list[Any], Field(min_length=1)]


Space = dict[str, Range | Choices]


def suggestion(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Settings for a trial; numbers are rounded to three digits, so that they can be read."""
    values: dict[str, Any] = {}
    for name, what in space.items():
        if isinstance(what, Range):
            values[name] = float(f"{trial.suggest_float(name, what.low, what.high, log=what.log):.3g}")
        else:
            values[name] = what.choices[trial.suggest_int(name, 0, len(what.choices) - 1)]
    return values


def checked_space(approach: str, file: Path) -> Space:
    """The space of an approach; an `InputError` if there is none, or it names a key that the approach does not have."""
    params: Approach = load_params(f"finetune.{approach}", Approach)  # type: ignore[arg-type]
    if not isinstance(params, Training):
        raise InputError(f"params.yaml: `finetune.{approach}` is a baseline; there is nothing to tune")
    space: Space = load_params(approach, Space, file)
    if unknown := sorted(set(space) - set(type(params).model_fields)):
        raise InputError(f"{file}: `{approach}.{unknown[0]}` is no key of `finetune.{approach}` in params.yaml")
    return space


def run_trial(approach: str, number: int, values: dict[str, Any]) -> tuple[str, float]:
    """Run one experiment; its name, and its score. Where it fails, an `InputError` with what DVC said last."""
    name = f"tune-{approach}-{number}"
    # `++`: also where the block takes the key from `finetune.defaults` so far. Hydra reads values as JSON has them.
    changes = [
        f"--set-param=++finetune.{approach}.{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    ]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--force", "--name", name, *changes]
    command += ["--single-item", f"finetune@{approach}"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.strip().splitlines() if line.strip()][-3:]
        raise InputError(f"trial {name} with {values} failed: {' '.join(last)}")
    path = str(METRICS / f"{approach}.json")
    metrics = dvc.api.metrics_show(path, rev=name)
    score = metrics.get(path, metrics).get(SCORE)
    if score is None:
        raise InputError(f"trial {name} with {values} failed: {path} has no {SCORE}")
    return name, float(score)


def with_settings(text: str, approach: str, values: dict[str, Any], origin: str) -> str:
    """The params file with new settings, each with a comment that says where they came from; all else as it is.

    A block on one line is spread over several, since it has no room for comments.
    """

    def line(key: str, value: Any) -> str:
        shown = yaml.safe_dump({key: value}, default_flow_style=True, width=10_000)[1:-2]
        return f"{shown}  # {origin}" if key in values else shown

    path = f"finetune.{approach}"
    if not node_at(yaml.compose(text, yaml.SafeLoader), path).flow_style:
        return replace_values(text, {f"{path}.{key}": line(key, values[key]).removeprefix(f"{key}:") for key in values})
    block = yaml.safe_load(text)["finetune"][approach] | values
    return replace_values(text, {path: "\n".join(["", *(line(key, block[key]) for key in block)])})


def main() -> None:
    """Tune the approach named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.tune", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("approach", help="name of a block under `finetune` in params.yaml, such as lora")
    parser.add_argument("--trials", type=int, default=10, help="experiments to run (10)")
    parser.add_argument("--spaces", type=Path, default=SPACES, help=f"what to search ({SPACES})")
    arguments = parser.parse_args()
    approach: str = arguments.approach
    space = checked_space(approach, arguments.spaces)
    present = METRICS / f"{approach}.json"
    if not present.is_file():
        raise InputError(f"{present}: no such file; run `dvc repro finetune@{approach}` first")
    if SCORE not in (metrics := read_json(present)):
        raise InputError(f"{present}: has no {SCORE}; was the approach left out on this machine? {metrics}")
    before = float(metrics[SCORE])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = seed_32(derived_seed(load_params("seed", int), "tune", approach))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    best, best_name, best_values, failed = before, "", {}, list[str]()
    for number in range(1, arguments.trials + 1):
        trial = study.ask()
        values = suggestion(trial, space)
        try:
            name, score = run_trial(approach, number, values)
        except InputError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failed.append(str(error))
            print(error, flush=True)
            continue
        study.tell(trial, score)
        print(f"{name}: {SCORE} {score:.4f} with {values}", flush=True)
        if score > best:
            best, best_name, best_values = score, name, values
    if len(failed) == arguments.trials:
        raise InputError(f"all {arguments.trials} trials failed; mend it, or {arguments.spaces}: {failed[0]}")
    if failed:
        print(f"tune: {len(failed)} of {arguments.trials} trials failed, for the reasons above")
    if not best_values:
        print(f"tune: none of {arguments.trials} trials beats {before:.4f} of the present settings; they stay")
        return
    origin = f"{best_name}: validation macro-F1 {best:.3f}, best of {arguments.trials} trials, {before:.3f} before"
    write_text(PARAMS_FILE, with_settings(PARAMS_FILE.read_text(encoding="utf-8"), approach, best_values, origin))
    print(f"tune: {PARAMS_FILE} has the settings of {origin}; look at `git diff {PARAMS_FILE}`, then `make repro`")


if __name__ == "__main__":
    run_stage(main)
