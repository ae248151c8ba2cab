"""Keep all metrics of a whole run of the preset `full`, of which `metrics/` holds those of `default` soon again.

`python -m tools.changes.full_results COMMIT`, after the run and before the next preset, writes
`docs/results_full.json`: the commit whose code ran, its date, and every file of `metrics/` under its path, but for the
predictions. The figures of docs/ come from there.
"""

import argparse
from pathlib import Path

from assay.core.errors import run_stage
from assay.core.outputs import read_json, write_json
from assay.statistics.predictions import FOLDER
from tools.changes.revisions import commit_of, git

METRICS = Path("metrics")
RESULTS = Path("docs/results_full.json")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", help="the commit whose code ran")
    shown = git("show", "-s", "--format=%h %cs", commit_of(parser.parse_args().commit))
    commit, date = (shown or "").split()
    paths = [path for path in sorted(METRICS.rglob("*.json")) if FOLDER not in path.parents]
    files = {str(path.relative_to(METRICS)): read_json(path) for path in paths}
    write_json(RESULTS, {"preset": "full", "commit": commit, "date": date, "metrics": files})
    print(f"{RESULTS}: {len(files)} files of {METRICS}/, of commit {commit} ({date})")


if __name__ == "__main__":
    run_stage(main)
