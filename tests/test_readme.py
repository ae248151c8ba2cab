"""The README says what the pipeline, the params and the metrics say."""

import re
from pathlib import Path

import pytest
import yaml

from assay.core.params import load_params
from assay.sources.records import IngestParams
from assay.splitting.assignment import SplitParams
from tests.template_params import FILE, full_params
from tools.changes import readme_results

MARKDOWN = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted(Path("docs").glob("*.md")))]


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.mark.figures
@pytest.mark.parametrize("name", ["results", "generation"])
def test_results_are_those_of_the_metrics(
    repository: Path, readme: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    content = readme_results.track_texts(*readme_results.read_results())[name]
    assert readme_results.between_markers(readme, name, content, Path("README.md")) == readme, "run `make readme`"


@pytest.mark.figures
def test_tests_start_from_the_committed_params() -> None:
    assert full_params() == FILE.read_text(), "run `python -m tests.template_params`"


def test_stage_table_is_that_of_the_pipeline(repository: Path, readme: str) -> None:
    stages = yaml.safe_load((repository / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    expected = [(name, (stage.get("do") or stage)["desc"]) for name, stage in stages.items()]
    table = readme.split("<!-- stages")[1].split("<!-- /stages -->")[0]
    assert expected == re.findall(r"^\| `(\w+)` \| (.+) \|$", table, flags=re.MULTILINE)


def test_picture_shows_every_stage(repository: Path) -> None:
    stages = yaml.safe_load((repository / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    text = (repository / "docs/pipeline.md").read_text(encoding="utf-8")
    picture = text.split("```mermaid")[1].split("```")[0]
    assert {name for name in stages if not re.search(rf"\b{name}\b", picture)} == set()


def test_params_for_own_data_are_valid(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs/pipeline.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(ingest:.+?)```", page, flags=re.DOTALL)
    (tmp_path / "params.yaml").write_text(block, encoding="utf-8")
    params = load_params("ingest", IngestParams, tmp_path / "params.yaml")
    assert params.sources[0].columns.label == "category"
    ((keys, split),) = re.findall(r"```yaml\n( +columns:.+?)(split:.+?)```", page, flags=re.DOTALL)
    own = re.sub(r" +columns: {text: text, label: category}[^\n]*\n", lambda _: keys, block) + split
    for section, model in (("ingest", IngestParams), ("split", SplitParams)):
        (tmp_path / "params.yaml").write_text(own, encoding="utf-8")
        load_params(section, model, tmp_path / "params.yaml")


@pytest.mark.parametrize("name", MARKDOWN)
def test_files_that_are_linked_or_named_exist(repository: Path, name: str) -> None:
    file = repository / name
    text = file.read_text(encoding="utf-8")
    linked = [file.parent / path for path in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text)]
    named = re.findall(r"`((?:stages|assay|tests|tools|\.github)/[\w./-]+\w)`", text)
    assert [str(path) for path in [*linked, *map(repository.joinpath, named)] if not path.exists()] == []


@pytest.mark.parametrize("name", [*MARKDOWN, "Makefile"])
def test_make_targets_that_are_named_exist(repository: Path, name: str) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    text = (repository / name).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets
