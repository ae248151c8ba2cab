"""What stands in the place of a model that this machine cannot fit, so that the comparison of the others goes on."""

import sys
from collections.abc import Mapping
from pathlib import Path

from assay.core.outputs import output_folder, write_json, write_text
from assay.core.results import RUN_ID, run_id_now

LEFT_OUT_FILE = "left_out.txt"
"""Stands in the model's folder, and in those of what would have been made with it; says why."""


def why_left_out(folder: Path) -> str | None:
    """Why there is no model in a folder; None: there is one, or ought to be."""
    file = folder / LEFT_OUT_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def leave_out(
    what: str, reason: str, folder: Path, metrics: Path, plots: Mapping[Path, str], costs: Path | None = None
) -> None:
    """Write the reason, one line, in all the places where a result would be looked for: in metrics as `left_out`.

    Files of `plots` get their header alone.
    """
    print(f"{what}: left out of the comparison: {reason}", file=sys.stderr)
    with output_folder(folder) as out:
        write_text(out / LEFT_OUT_FILE, reason + "\n")
    for path, header in plots.items():
        write_text(path, header + "\n")
    write_json(metrics, {RUN_ID: run_id_now(metrics), "left_out": reason})
    if costs is not None:
        write_json(costs, {"left_out": reason})
