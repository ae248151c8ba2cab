"""Two branches that both ran the pipeline are merged as docs/pull_requests.md says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.own_process import REPOSITORY, commit_all, git

STAGE = """
import json, pathlib, sys, yaml
name, *inputs = sys.argv[1:]
value = yaml.safe_load(open("params.yaml"))[name] + sum(int(open(f"data/{one}").read()) for one in inputs)
pathlib.Path("data", name).write_text(str(value))
pathlib.Path("metrics", f"{name}.json").write_text(json.dumps({"value": value}))
open("ran.log", "a").write(name + " ")
"""
INPUTS: dict[str, list[str]] = {"one": [], "two": [], "sum": ["one", "two"]}


def repro() -> str:
    """Run the pipeline; the stages that were executed and not taken from DVC's run cache."""
    Path("ran.log").write_text("")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    return Path("ran.log").read_text().strip()


@pytest.mark.slow
def test_what_both_sides_ran_is_made_again_from_the_run_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = {
        name: {
            "cmd": " ".join([f"{sys.executable} stage.py", name, *inputs]),
            "deps": [f"data/{one}" for one in inputs],
            "params": [name],
            "outs": [f"data/{name}"],
            "metrics": [{f"metrics/{name}.json": {"cache": False}}],
        }
        for name, inputs in INPUTS.items()
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("stage.py").write_text(STAGE)
    Path("params.yaml").write_text("one: 1\n\n\n\ntwo: 1\n\n\n\nsum: 0\n")
    Path(".gitignore").write_text("ran.log\n/data/\n")
    shutil.copy(REPOSITORY / ".gitattributes", ".gitattributes")
    for name in ("data", "metrics"):
        Path(name).mkdir()
    commit_all()
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    assert repro() == "one two sum"
    commit_all()
    for branch, value in (("one", 20), ("two", 30)):
        git("checkout", "-q", "-b", f"changes-{branch}", "main")
        Path("params.yaml").write_text(Path("params.yaml").read_text().replace(f"{branch}: 1", f"{branch}: {value}"))
        assert repro() == f"{branch} sum"
        commit_all()

    git("checkout", "-q", "changes-one")
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "changes-two")
    assert git("diff", "--name-only", "--diff-filter=U").split() == ["dvc.lock", "metrics/sum.json"]
    # No markers: this branch's files stand until they are made again.
    assert json.loads(Path("metrics/sum.json").read_text()) == {"value": 21}
    assert repro() == "sum"  # `two` was run on the other branch
    git("add", "--all", "dvc.lock", "metrics")
    git("commit", "-qm", "Merge changes-two")
    assert [json.loads(Path(f"metrics/{name}.json").read_text())["value"] for name in INPUTS] == [20, 30, 50]
    assert git("status", "--porcelain") == ""
    assert repro() == ""
