"""Write `report/ablation.html` from the metrics of the stages of `ablation/dvc.yaml`: part of `make ablation`.

A stage has its section in `assay/report/ablation_<stage>.html`, which finds its metrics in `stages.<stage>`.
"""

from pathlib import Path

import polars as pl

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import load_params
from assay.core.results import ABLATION, metrics_files, read_own
from assay.report.page import code_version, render
from assay.report.plots import learning_curves

PAGE = Path("report/ablation.html")


def main() -> None:
    """Write the page. Raises `InputError`: no stage ran on these data and params."""
    read = {name: read_own(file) for name, file in metrics_files(ABLATION).items()}
    stages = {name: found for name, found in read.items() if found is not None}
    if not stages:
        raise InputError(f"metrics/ablation: nothing of these data and params ({', '.join(read)}); run `make ablation`")
    values = {
        "stages": stages,
        "not_run": [name for name in read if name not in stages],
        "code_version": code_version(),
    }
    if "learning_curve" in stages:
        plot = learning_curves(pl.read_csv("metrics/plots/learning_curve.csv").rows(), "Learning curve")
        values["learning_curve_plot"] = plot
    write_text(PAGE, render("ablation.html", values | {"title": load_params("report.title", str)}))
    print(f"ablation: open {PAGE}")


if __name__ == "__main__":
    run_stage(main)
