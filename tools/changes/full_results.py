"""Keep all metrics of a whole run of the preset `full`, of which `metrics/` holds those of `default` soon again.

`python -m tools.changes.full_results COMMIT`, after the run and before the next preset, writes
`docs/results_full.json`: the commit whose code ran, its date, and every file of `metrics/` under its path. The figures
of docs/ come from there.
"""

import argparse
import subprocess
from pathlib import Path

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_json

METRICS = Path("metrics")
RESULTS = Path("docs/results_full.json")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", help="the commit whose code ran")
    asked = parser.parse_args().commit
    shown = subprocess.run(["git", "show", "-s", "--format=%h %cs", asked], capture_output=True, text=True)
    if shown.returncode:
        raise InputError(f"git: {asked!r} is no commit of this repository; name the one whose code ran")
    commit, date = shown.stdout.split()
    files = {str(path.relative_to(METRICS)): read_json(path) for path in sorted(METRICS.rglob("*.json"))}
    write_json(RESULTS, {"preset": "full", "commit": commit, "date": date, "metrics": files})
    print(f"{RESULTS}: {len(files)} files of {METRICS}/, of commit {commit} ({date})")


if __name__ == "__main__":
    run_stage(main)
