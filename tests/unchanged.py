"""Compare what this code makes with what another commit's code makes, byte for byte: `make unchanged BASE=main`.

For a change that should change nothing, such as a file that moves. Both commits run the data stages and a few fits on a
small fixture (`tests/pipeline_copy.py` of each, with the same tiny models); then the hashes of all outputs are
compared. Exit status 1 where one differs.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import InputError, run_stage
from tools.changes.revisions import commit_of
from tools.command_line import command_line

STAGES = (
    *("fetch", "ingest", "clean", "embed", "correct", "semantic_duplicates", "annotation_qa", "split"),
    *("label_errors", "augment", "profile", "finetune"),
)

LAY_OUT = """
import sys
from pathlib import Path
from tests.pipeline_copy import write_params, write_pipeline_copy
from tests.tiny_models import write_tiny_chat_model, write_tiny_encoder
target, encoder, language_model = map(Path, sys.argv[1:])
if not encoder.exists():
    write_tiny_encoder(encoder)
    write_tiny_chat_model(language_model)
params = write_pipeline_copy(Path.cwd(), target, encoder, language_model, 240)
params["approaches"] = ["linear_probe", "lora", "full"]
params["optional"] = {name: [] for name in params.get("optional", {})}
write_params(target, params)
"""
"""Run at the top of a checkout, whose own fixture code and params it uses; the models are those of the first one."""


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Inside the block a commit is checked out in a folder, which is made."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], check=True)


def run(command: list[str], folder: Path) -> str:
    """What a command prints. Raises `InputError`: it fails; with the end of what it said."""
    # DVC runs `python`: that must be this one.
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise InputError(f"`{' '.join(command[:6])} …` failed in {folder}:\n{end}")
    return done.stdout


def output_hashes(folder: Path) -> dict[str, dict[str, str]]:
    """The hash of every output but metrics, by stage and path."""
    lock: dict[str, Any] = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {
        stage: {out["path"]: str(out["md5"]) for out in entry["outs"] if not out["path"].startswith("metrics/")}
        for stage, entry in lock.items()
    }


def hashes_of(checkout: Path, target: Path, models: tuple[Path, Path]) -> dict[str, dict[str, str]]:
    """Run the stages on the fixture with the code of a checkout, and hash what they made."""
    python, dvc = sys.executable, [sys.executable, "-m", "dvc"]
    run([python, "-c", LAY_OUT, str(target), *map(str, models)], checkout)
    run([*dvc, "init", "--no-scm", "-q"], target)
    run([*dvc, "repro", *STAGES], target)
    return output_hashes(target)


def main() -> None:
    """Compare, print a line for each output, and end with exit status 1 where one differs."""
    parser = command_line("python -m tests.unchanged", __doc__, whole=True)
    parser.add_argument("base", help="a branch, tag or commit")
    here, commit = Path.cwd(), commit_of(parser.parse_args().base)
    with tempfile.TemporaryDirectory(prefix="unchanged") as scratch_name:
        scratch = Path(scratch_name)
        models = (scratch / "encoder", scratch / "language_model")
        with checked_out(commit, scratch / "base") as base:
            print(f"unchanged: running {len(STAGES)} stages on the fixture at {commit[:10]} …", flush=True)
            old = hashes_of(base, scratch / "old", models)
        print("unchanged: and in this working tree …", flush=True)
        new = hashes_of(here, scratch / "new", models)
    made_before = {path: value for outs in old.values() for path, value in outs.items()}
    differ = False
    for stage, outs in new.items():
        differing = [path for path, value in outs.items() if made_before.pop(path, None) != value]
        print(f"{stage:24} {'DIFFERS: ' + ', '.join(differing) if differing else 'same'}")
        differ = differ or bool(differing)
    for path in made_before:
        print(f"{path}: no longer made")
    if differ or made_before:
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
