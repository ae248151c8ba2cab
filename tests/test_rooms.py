"""The rooms of the library: `make lint` keeps their order, and docs/architecture.md draws what is there."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

Arrows = set[tuple[str, str]]


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


@pytest.fixture(scope="module")
def imports() -> Arrows:
    """Which room imports which."""
    graph = grimp.build_graph("assay", cache_dir=None)
    return {
        (importer.split(".")[1], imported.split(".")[1])
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if importer.split(".")[1:2] != imported.split(".")[1:2] and "." in importer and "." in imported
    }


@pytest.fixture(scope="module")
def drawn(repository: Path) -> Arrows:
    text = (repository / "docs/architecture.md").read_text()
    picture = text[text.index("<!-- rooms") : text.index("<!-- /rooms")]
    arrows = re.findall(r"^  (\w+) --> ([\w &]+)$", picture, re.M)
    return {(room, target) for room, targets in arrows for target in targets.split(" & ")}


def reachable(arrows: Arrows) -> Arrows:
    """The arrows, and those that they imply."""
    while more := {(a, d) for a, b in arrows for c, d in arrows if b == c} - arrows:
        arrows = arrows | more
    return arrows


def test_the_picture_shows_the_imports_and_no_arrow_too_many(imports: Arrows, drawn: Arrows) -> None:
    assert reachable(drawn) == reachable(imports)
    assert [arrow for arrow in drawn if arrow in reachable(drawn - {arrow})] == []


def test_the_picture_has_every_room_of_the_contract_in_its_order(repository: Path, drawn: Arrows) -> None:
    rooms_contract = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    floor = {room: height for height, layer in enumerate(rooms_contract["layers"]) for room in re.split(r"\W+", layer)}
    assert {room for arrow in drawn for room in arrow} == set(floor)
    assert [arrow for arrow in drawn if floor[arrow[0]] >= floor[arrow[1]]] == []
