"""Make a clone of the template a project of its own: `make start`.

What is said of the template's data goes: metrics and plots, `dvc.lock`, the results in README.md, what people decided
about rows and answers, and what stages made on this machine. Code, params, tests, docs and
downloads stay. CHANGELOG.md begins anew and names the template's commit, from which later versions of the template are
merged (docs/template.md). Nothing is committed: `git diff` shows it all.
"""

import os
import sys
from pathlib import Path

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import discard, write_text
from assay.human_review import corrections, preference_judgements
from tools.changes.readme_results import between_markers
from tools.changes.revisions import commit_of, git, require_committed
from tools.command_line import command_line
from tools.run.lock_guard import EMPTY, LOCK, read_text

METRICS = Path("metrics")
README, CHANGELOG = Path("README.md"), Path("CHANGELOG.md")
NO_RESULTS = "None yet: `make repro`, then `make readme`."
DECISIONS = {"data/corrections.csv": corrections.HEADER, "data/preferences.csv": preference_judgements.HEADER}
"""Files of people's decisions, and the line that is left of them."""
STARTED = "Started from the template's commit"
TEXTS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("start.yaml").read_text(encoding="utf-8"))


def made_here() -> list[Path]:
    """Data and models on this machine that stages made, by `dvc.lock`; downloads are not among them.

    Without its entry there, the output of a stage that is off would never be deleted, and the report might show it.
    """
    stages = (yaml.safe_load(read_text(LOCK)) or {}).get("stages") or {}
    outs = {Path(out["path"]) for name in stages if name[:6] != "fetch@" for out in stages[name].get("outs", [])}
    return sorted(path for path in outs if os.path.lexists(path) and METRICS not in path.parents)


def main() -> None:
    """Say what goes, ask, and remove it. Raises `InputError`: changes are uncommitted, or it was done before."""
    parser = command_line("python -m tools.new.start", __doc__)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    has_agreed = parser.parse_args().yes
    if STARTED in read_text(CHANGELOG):
        raise InputError(f"{CHANGELOG}: this project was started before, and its results are yours: nothing is removed")
    commit = commit_of("HEAD")
    require_committed(Path())
    # Stages depend on the folders that a .gitkeep keeps.
    names = git("ls-files", "-z", "--", str(METRICS), "ablation/dvc.lock", ":!*.gitkeep") or ""
    tracked, made = [Path(name) for name in names.split("\0") if name], made_here()
    readme = README.read_text(encoding="utf-8")
    for name in ("results", "generation"):
        readme = between_markers(readme, name, NO_RESULTS, README)

    decided = ", ".join(f"{len(read_text(Path(path)).splitlines()) - 1} in {path}" for path in DECISIONS)
    print(TEXTS["removed"].format(commit=commit, tracked=len(tracked), decided=decided, made=", ".join(map(str, made))))
    if not has_agreed and not (sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() in ("y", "yes")):
        raise InputError('nothing was removed; without a question: ARGS="--yes"')
    for path in [*tracked, *made]:
        discard(path)
    texts = {path: f"{header}\n" for path, header in DECISIONS.items()} | {README: readme, LOCK: EMPTY}
    for file, text in (texts | {CHANGELOG: TEXTS["changelog"].format(commit=commit)}).items():
        write_text(file, text)
    print(TEXTS["next"])


if __name__ == "__main__":
    run_stage(main)
