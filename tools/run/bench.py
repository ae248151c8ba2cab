"""The benchmarks of another commit and of this working tree side by side, in CPU seconds: `make bench BASE=main`.

The base is checked out into a temporary folder; data and models that git does not hold are lent to it. Both sides run
in this `.venv`, in turn, `TURNS` times; the table has each benchmark's least CPU time (user and system, with that of
processes that it started and that have ended), which another program on the machine changes least. It is Markdown, for
a pull request. A benchmark goes by its name, so that its file may move.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from assay.core.errors import InputError, run_stage
from tools.changes.readme_results import markdown_table
from tools.changes.revisions import checked_out, commit_of

TURNS = 2
LENT = ("data", "models")
TIMER = """from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

def cpu_seconds():
    return sum(u.ru_utime + u.ru_stime for u in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))
"""
"""A module of its own, since the base need not have it."""


def lend(here: Path, base: Path) -> None:
    """Link what `here` has below `LENT` and the checkout of the base has not."""
    for path in sorted(path for name in LENT for path in here.glob(f"{name}/*")):
        target = base / path.relative_to(here)
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            target.symlink_to(path)


def run_benchmarks(checkout: Path, scratch: Path, arguments: list[str]) -> dict[str, float]:
    """CPU seconds of each benchmark of a checkout, by name; none where it has none that `arguments` select."""
    result = scratch / "result.json"
    result.unlink(missing_ok=True)
    (scratch / "bench_timer.py").write_text(TIMER, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests/benchmarks", "--benchmark-only", "--benchmark-min-rounds=1", "-q"),
            *("--benchmark-timer=bench_timer.cpu_seconds", f"--benchmark-json={result}", *arguments),
        ],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 5):  # 5: nothing selected
        print(f"bench: not all ran in {checkout}:\n{(done.stdout + done.stderr)[-2000:]}", file=sys.stderr)
    text = result.read_text(encoding="utf-8") if result.exists() else ""
    return {one["name"]: one["stats"]["min"] for one in json.loads(text)["benchmarks"]} if text else {}


def render_table(base: dict[str, float], this: dict[str, float], commit: str) -> str:
    """A Markdown table of seconds by benchmark; a ratio where both have it, else `new` or `gone`."""
    rows = []
    for name in sorted(base | this):
        old, new = base.get(name), this.get(name)
        ratio = "new" if old is None else "gone" if new is None else f"{new / old:.2f}" if old else "–"
        shown = ("–" if value is None else f"{value:.3g}" for value in (old, new))
        rows.append([f"`{name}`", *shown, ratio])
    return markdown_table(["benchmark (CPU seconds)", f"base {commit}", "this", "this / base"], rows)


def main() -> None:
    """Run both, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.run.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="a branch, tag or commit")
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="arguments of pytest, such as -k augment")
    arguments = parser.parse_args()
    here = Path.cwd()
    commit = commit_of(arguments.base)
    times: tuple[dict[str, float], dict[str, float]] = ({}, {})
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        scratch = Path(name)
        with checked_out(commit, scratch / "base") as base:
            lend(here, base)
            for turn in range(TURNS):
                for checkout, least in zip((base, here), times, strict=True):
                    print(f"bench: turn {turn + 1} of {TURNS} in {checkout} …", file=sys.stderr, flush=True)
                    for test, seconds in run_benchmarks(checkout, scratch, arguments.pytest).items():
                        least[test] = min(seconds, least.get(test, seconds))
    if not any(times):
        raise InputError(f"bench: no benchmark ran on either side with {arguments.pytest}; see `pytest` above")
    print(render_table(*times, commit[:7]))


if __name__ == "__main__":
    run_stage(main)
