"""Stages that need no heavy library do not import one: that is seconds of each run."""

import pytest

from tests.own_process import run_python

LIGHT = ("clean", "compare_generation", "correct", "fetch", "ingest", "report", "split")
WITHOUT_PYTORCH = ("annotation_qa", "evaluate", "finetune", "label_errors")
"""They use scikit-learn; `evaluate` and `finetune` import PyTorch once the approach is not a baseline."""


@pytest.mark.parametrize(
    ("stages", "absent"),
    [(LIGHT, {"torch", "transformers", "textattack", "sklearn"}), (WITHOUT_PYTORCH, {"torch", "transformers"})],
)
def test_no_heavy_import(stages: tuple[str, ...], absent: set[str]) -> None:
    imports = "; ".join(f"import stages.{name}" for name in stages)
    done = run_python("-c", f"import sys; {imports}; print(sorted({absent!r} & set(sys.modules)))")
    assert done.stdout.strip() == "[]"
