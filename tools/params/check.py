"""Is `params.yaml` right? Every section, by the class that its stage reads it with, before anything runs.

Part of `make repro` and of `make doctor`; `python -m tools.params.check` does it alone. All problems are named at once:
of each section, of lists that need each other, and of sections that nothing reads.
"""

import difflib
import hashlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import DEFAULTS, PARAMS_FILE, load_params, read_yaml
from assay.sources.records import RECORDS_SCHEMA, IngestParams, carried_name
from tools.run.stale_outputs import require_consistent_lists

CODE = tuple(Path(__file__).parents[2] / name for name in ("assay", "stages", "tools"))
STAGES = sorted(path.stem for path in CODE[1].glob("[a-z]*.py"))
FOUND_RIGHT = Path(".dvc/tmp/params_found_right")
"""The digest of what was checked last and was right; not in git."""

SECTIONS: dict[str, Any] = {
    "seed": int,
    "approaches": list[str],
    "sft_approaches": list[str],
    "optional": dict[str, list[str]],
    "max_rows": "stages.ingest.MaxRows",
    "compute": "assay.compute.device.Compute",
    "gate": "tools.changes.gate.GateParams",
    "inference": "assay.inference.thresholds.InferenceParams",
    "serve": "assay.inference.serve_params.ServeParams",
    "language_model": str,
    "template_arguments": "assay.language_models.base_template.TemplateArguments",
    "decoding": "assay.language_models.checkpoint.Decoding",
    "generation_models": dict[str, str],
    **{name: f"stages.{name}.{name.title().replace('_', '')}Params" for name in STAGES},
    "profile": "assay.corpus_profile.ProfileParams",
    "finetune": "assay.fine_tuning.params.Approach",
    "sft": "assay.fine_tuning.sft_params.Approach",
}
"""What each section is read as, a class by its path: that of a stage is in its module, and named after it. `finetune`
and `sft` hold blocks, each of the type given."""


def find_problems(path: Path) -> list[str]:
    """What is wrong with a params file, a sentence each. Raises `InputError`: it cannot be read at all."""
    problems = list[str]()

    def check(section: str, model: Any) -> None:
        try:
            load_params(section, model, path)
        except InputError as error:
            lines = [line.strip() for line in str(error).removeprefix(f"{path}: ").splitlines()]
            # What is wrong in `defaults` is wrong for each block that takes it.
            problems.extend(line for line in lines if line not in problems)

    load_params("seed", object, path)
    params: dict[str, Any] = read_yaml(path)
    for section, path_or_type in SECTIONS.items():
        model = pkgutil.resolve_name(path_or_type) if isinstance(path_or_type, str) else path_or_type
        blocks = params.get(section)
        if section not in ("finetune", "sft") or not isinstance(blocks, dict):
            check(section, model)
            continue
        for name in blocks:
            if name != DEFAULTS:
                check(f"{section}.{name}", model)
    for section in params:
        if section not in SECTIONS:
            close = difflib.get_close_matches(str(section), SECTIONS, n=1)
            problems.append(f"`{section}` is no section" + (f"; did you mean `{close[0]}`?" if close else ""))
    for section in ("finetune", "sft", "generation_models"):
        for name in params.get(section) or {}:
            if not re.fullmatch("[A-Za-z0-9_-]+", str(name)):
                problems.append(f"`{section}` has {name!r}: a name is of letters, digits, _ and -, and names files")
    for names, section in (("approaches", "finetune"), ("sft_approaches", "sft")):
        for name in params.get(names) or []:
            if name not in (params.get(section) or {}):
                problems.append(f"`{names}` has {name!r}, and there is no block `{section}.{name}`")
    if not problems:
        # A fork that carries nothing is told by the stage; who carries columns has another name in mind.
        sources = load_params("ingest", IngestParams, path).sources
        carried = {carried_name(one) for source in sources for one in source.carry}
        named = params["split"]["group_column"]
        if named is not None and carried and named not in {*carried, *RECORDS_SCHEMA}:
            problems.append(
                f"`split.group_column` = {named!r}: the sources of `ingest` carry {sorted(carried)}; or null"
            )
        guarded = params["gate"]["approach"]
        if guarded is not None and guarded not in params["approaches"]:
            problems.append(f"`gate.approach` = {guarded!r} is not in `approaches`; name one of them, or null")
        try:
            require_consistent_lists(params)
        except InputError as error:
            problems.append(str(error).removeprefix("params.yaml: "))
    return problems


def digest(path: Path) -> str:
    """SHA-256 of a params file and of the code that says what is right."""
    files = [path, *sorted(file for top in CODE for file in top.rglob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def was_found_right(path: Path = PARAMS_FILE) -> bool:
    """Whether a params file was checked, and neither it nor the code has changed since."""
    return path.is_file() and FOUND_RIGHT.is_file() and FOUND_RIGHT.read_text(encoding="utf-8") == digest(path)


def check_params(path: Path = PARAMS_FILE) -> None:
    """Raise `InputError`, which names all that is wrong with a params file.

    This imports the model libraries, so a file that was found right is not checked again until it or the code changes.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; run from the top of the repository")
    key = digest(path)
    if was_found_right(path):
        return
    if problems := find_problems(path):
        raise InputError(f"{path}: {len(problems)} problem(s), and nothing was run\n  " + "\n  ".join(problems))
    if FOUND_RIGHT.parent.parent.is_dir():
        write_text(FOUND_RIGHT, key)


def main() -> None:
    """Check `params.yaml`."""
    check_params()
    print(f"{PARAMS_FILE}: every section is right")


if __name__ == "__main__":
    run_stage(main)
