"""The order of the rooms of the library is kept by `make lint`."""

import shutil
import subprocess
import sys
from pathlib import Path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_an_upward_import_breaks_the_contract(repository: Path, tmp_path: Path) -> None:
    for name in ("assay", "stages", "tools"):
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", tmp_path)
    assert lint_imports(tmp_path).returncode == 0
    with (tmp_path / "assay/statistics/bootstrap.py").open("a") as file:
        file.write("\nimport assay.report.plots\n")
    broken = lint_imports(tmp_path)
    assert broken.returncode == 1
    assert "assay.statistics.bootstrap -> assay.report.plots" in broken.stdout
