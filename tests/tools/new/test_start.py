"""A clone of the template becomes a project of its own, and takes in later versions as docs/template.md says."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from assay.core.errors import InputError
from tests.own_process import REPOSITORY, commit_all, git, read_blocks, run_main, run_shell
from tools.new import start
from tools.run.lock_guard import EMPTY

MARKED = "<!-- {0}: `make readme` writes them from metrics/ -->\n{1}\n<!-- /{0} -->\n"
RUN = """
import json, pathlib, yaml
made = {**yaml.safe_load(open("params.yaml")), "code": NUMBER}
pathlib.Path("metrics/one.json").write_text(json.dumps(made))
pathlib.Path("data/one").write_text("")
outs = {"one": ["data/one", "metrics/one.json"], "fetch@a": ["data/raw"]}
stages = {name: {"params": made, "outs": [{"path": path} for path in outs[name]]} for name in outs}
pathlib.Path("dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
"""
SHELL = """
make() { if [ "$1" = repro ]; then python run.py; fi; }
git() { command git "$@" || [ "$1" = merge ]; }  # a merge with conflicts ends with 1
"""


def marked(result: str) -> str:
    return "".join(MARKED.format(track, result) for track in ("results", "generation"))


def read(name: str) -> str:
    return Path(name).read_text()


def write_version(number: int, params: str) -> None:
    """Commit a version of a small template, with results in all the places that have some."""
    texts = {
        "README.md": f"{marked(f'0.9{number}')}Text {number}\n",
        "CHANGELOG.md": f"{number}\n",
        "params.yaml": params,
    }
    texts |= {path: f"{header}\nof template {number}\n" for path, header in start.DECISIONS.items()}
    texts |= {f"metrics/plots/{number}.csv": "1", "metrics/.gitkeep": ""}
    texts |= {"run.py": RUN.replace("NUMBER", str(number)), ".gitignore": "data/*\n!data/*.csv\n", "data/raw/a": ""}
    for name, text in texts.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    shutil.copy(REPOSITORY / ".gitattributes", ".gitattributes")
    run_shell("python run.py")
    commit_all()


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "template").mkdir()
    monkeypatch.chdir(tmp_path / "template")
    write_version(1, "one: 1\n\n\n\ntwo: 1\n\n\n\nsum: 0\n")
    return tmp_path / "template"


@pytest.mark.usefixtures("template")
def test_results_go_and_code_params_and_downloads_stay() -> None:
    commit = git("rev-parse", "HEAD").strip()
    with pytest.raises(InputError, match="nothing was removed; without a question"):
        run_main(start)
    Path("own.csv").write_text("text,label")
    with pytest.raises(InputError, match="has uncommitted changes"):
        run_main(start, "--yes")
    Path("own.csv").unlink()
    assert git("status", "--porcelain") == ""
    run_main(start, "--yes")
    changed = ["CHANGELOG.md", "README.md", *start.DECISIONS, "dvc.lock"]
    gone = ["metrics/one.json", "metrics/plots/1.csv"]
    expected = [*(f"M\t{name}" for name in changed), *(f"D\t{name}" for name in gone)]
    assert sorted(git("diff", "--name-status").splitlines()) == sorted(expected)
    assert (read("README.md"), read("dvc.lock")) == (f"{marked(start.NO_RESULTS)}Text 1\n", EMPTY)
    assert {path: read(path).strip() for path in start.DECISIONS} == start.DECISIONS
    assert f"{start.STARTED} {commit}. What changed in it before: `git show {commit[:10]}:" in read("CHANGELOG.md")
    assert (Path("data/raw/a").exists(), Path("data/one").exists()) == (True, False)
    commit_all()
    with pytest.raises(InputError, match="was started before"):
        run_main(start, "--yes")


@pytest.mark.parametrize("has_history", [True, False], ids=["clone", "copy of the files"])
def test_a_later_version_brings_its_code_and_leaves_what_is_ones_own(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_history: bool
) -> None:
    fork = tmp_path / "fork"
    if has_history:
        git("clone", "--quiet", "--origin", "template", str(template), str(fork))
    else:
        shutil.copytree(template, fork, ignore=shutil.ignore_patterns(".git"))
        commit_all(fork)
        git("remote", "add", "template", str(template), cwd=fork)
    monkeypatch.chdir(fork)
    run_main(start, "--yes")
    Path("params.yaml").write_text(read("params.yaml").replace("two: 1", "two: 30").replace("sum: 0", "sum: 7"))
    Path("README.md").write_text(read("README.md").replace(start.NO_RESULTS, "0.5"))
    run_shell("python run.py")
    commit_all()
    monkeypatch.chdir(template)
    write_version(2, "one: 5\n\n\n\ntwo: 1\n\n\n\nsum: 3\nnew: 1\n")

    monkeypatch.chdir(fork)
    if not has_history:
        run_shell(*read_blocks("template.md", "history"))
    merge, keep_results, make_again = read_blocks("template.md", "upgrade")
    run_shell(merge, SHELL)
    assert git("diff", "--name-only", "--diff-filter=U").split() == ["README.md", "params.yaml"]
    # By hand: the own value, and the key that is new.
    Path("params.yaml").write_text(re.sub(r"<{7}.*\n|={7}\nsum: 3\n|>{7}.*\n", "", read("params.yaml")))
    run_shell(keep_results)
    run_shell(make_again, SHELL)
    assert yaml.safe_load(read("params.yaml")) == {"one": 5, "two": 30, "sum": 7, "new": 1}
    assert json.loads(read("metrics/one.json")) == {"one": 5, "two": 30, "sum": 7, "new": 1, "code": 2}
    assert (read("README.md"), start.STARTED in read("CHANGELOG.md")) == (f"{marked('0.5')}Text 2\n", True)
    assert {path: read(path).strip() for path in start.DECISIONS} == start.DECISIONS
    assert git("ls-files", "metrics", "docs").split() == ["metrics/.gitkeep", "metrics/one.json"]
    assert git("status", "--porcelain") == ""
    assert len(git("show", "-s", "--format=%P", "HEAD").split()) == 2
