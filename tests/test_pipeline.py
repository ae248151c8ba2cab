"""Both `dvc.yaml`, `params.yaml` and the code say the same: no stage reads, writes or imports more than it declares."""

import ast
import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.results import read_pipeline, run_id
from assay.report.summary import ROW_STAGES
from assay.statistics.metrics_dict import leaves
from tests.pipeline_copy import KEPT_FOLDERS, run_in_forks, write_params, write_pipeline_copy
from tests.template_params import read_template_params

# The whole DAG runs in a fixture: two to five minutes, more on a busy machine.
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Stage:
    """One resolved stage of `dvc.yaml`."""

    name: str
    command: list[str]
    deps: list[str]
    params: list[str]
    outs: list[str]

    @property
    def module(self) -> str:
        return self.command[2].removeprefix("stages.")


def lookup(tree: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        tree = tree[key]
    return tree


def filled(value: Any, context: dict[str, Any]) -> str:
    """A `${…}` template with the values put in, as DVC does."""
    text = str(value)
    while "${" in text:
        start = text.index("${")
        end = text.index("}", start)
        text = text[:start] + str(lookup(context, text[start + 2 : end])) + text[end + 1 :]
    return text


def resolved_stages(pipeline: dict[str, Any], params: dict[str, Any]) -> list[Stage]:
    stages = []
    for name, body in pipeline["stages"].items():
        if "foreach" in body:
            items = lookup(params, body["foreach"][2:-1])
            variants = [(f"{name}@{key}", body["do"], {"key": key, "item": value}) for key, value in items.items()]
        elif "matrix" in body:
            ((axis, values),) = body["matrix"].items()
            variants = [(f"{name}@{v}", body, {"item": {axis: v}}) for v in lookup(params, values[2:-1])]
        else:
            variants = [(name, body, {})]
        for full_name, spec, extra in variants:
            context = params | extra

            def paths(kind: str, spec: dict[str, Any] = spec, context: dict[str, Any] = context) -> list[str]:
                return [
                    filled(next(iter(entry)) if isinstance(entry, dict) else entry, context)
                    for entry in spec.get(kind, [])
                ]

            stages.append(
                Stage(
                    full_name,
                    filled(spec["cmd"], context).split(),
                    paths("deps"),
                    paths("params"),
                    [*paths("outs"), *paths("metrics"), *paths("plots")],
                )
            )
    return stages


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return resolved_stages(read_pipeline(), read_template_params())


CODE = ("assay", "stages", "tools")


def local_imports(path: Path, repository: Path) -> set[str]:
    """The modules of this repository that a module imports, itself included, as paths, followed through."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        module = waiting.pop()
        name = str(module.relative_to(repository))
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(module.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for dotted in names:
                candidate = repository / (dotted.replace(".", "/") + ".py")
                if dotted.startswith(CODE) and candidate.is_file():
                    waiting.append(candidate)
    return found


def room(module: str) -> str:
    """What a stage declares to depend on a module: a room of the library as a folder, anything else as a file."""
    top, *inner = module.split("/")
    return f"{top}/{inner[0]}" if top == "assay" and len(inner) > 1 else module


def is_code(dep: str) -> bool:
    return dep.startswith(CODE) and (dep.endswith(".py") or "." not in dep)


def test_every_module_is_a_stage_and_every_stage_a_module(repository: Path) -> None:
    modules = {path.stem for path in (repository / "stages").glob("*.py")} - {"__init__"}
    names = set(read_pipeline()["stages"])
    assert len(names) >= 11
    assert modules == names


def test_a_stage_runs_the_module_of_its_name(stages: list[Stage]) -> None:
    for stage in stages:
        assert stage.command[:3] == ["python", "-m", f"stages.{stage.name.partition('@')[0]}"]


def test_declared_code_is_the_imported_code(repository: Path) -> None:
    for name, entry in read_pipeline()["stages"].items():
        body = entry.get("do", entry)
        module = repository / (body["cmd"].split()[2].replace(".", "/") + ".py")
        imported = {room(path) for path in local_imports(module, repository)}
        assert {dep for dep in body["deps"] if is_code(dep)} == imported, name


def test_packages_define_nothing_but_say_what_is_in_them(repository: Path) -> None:
    """A package that re-exported would pull its whole room into every import of one module."""
    for path in [*(repository / "assay").rglob("__init__.py"), *(repository / "tools").rglob("__init__.py")]:
        only, *imported = ast.parse(path.read_text()).body
        # What people import who use a model, and read no code.
        assert len(imported) == (path.parent.name == "inference"), path
        assert isinstance(only, ast.Expr), path
        assert isinstance(only.value, ast.Constant), path
    rooms = {path.parent for path in (repository / "assay").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in rooms)


def test_every_param_is_claimed_by_a_stage(stages: list[Stage], repository: Path) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    claims = {claim for stage in stages for claim in stage.params}
    # An optional stage that is off waits unused too.
    claims |= {claim for stage in read_pipeline()["stages"].values() for claim in stage.get("do", stage)["params"]}
    # Blocks of approaches that are not in `approaches` wait there unused.
    claims |= {f"{section}.{name}" for section in ("finetune", "sft") for name in params[section]}
    # What a matrix runs over, and what a tool reads: no stage may depend on the latter.
    assert not {"gate", "inference", "serve"} & claims
    claims |= {"sft_approaches", "optional", "gate", "inference", "serve"}
    paths = [path for path, _ in leaves(params)]
    assert [path for path in paths if not any(f"{path}.".startswith(f"{claim}.") for claim in claims)] == []


def copy_path(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def files_below(folder: Path) -> set[str]:
    hidden = (".cache", "__pycache__")
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths if not set(path.relative_to(folder).parts) & set(hidden)}


def claimed_params(params: dict[str, Any], claims: list[str]) -> dict[str, Any]:
    """Only those params that a stage declares."""
    kept: dict[str, Any] = {}
    for claim in claims:
        *parents, last = claim.split(".")
        node = kept
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = lookup(params, claim)
    return kept


def isolated(stage: Stage, store: Path, params: dict[str, Any], folder: Path) -> None:
    """Fill `folder` with the declared deps and params of a stage, and nothing else."""
    folder.mkdir(parents=True)
    for dep in stage.deps:
        copy_path(store / dep, folder / dep)
    if stage.module == "fetch":
        # The archive stands for the network.
        copy_path(store / "assets", folder / "assets")
    # What says whose metrics are whose: `assay/core/results.py` reads the pipelines and the sources of every stage.
    for file in ("dvc.yaml", "ablation/dvc.yaml"):
        copy_path(store / file, folder / file)
    write_params(folder, readable_params(stage, params, stage.params))


COMPARES_RUN_IDS = ("compare_generation", "report")
INSTRUCT = ("instruct_data.path", "instruct_data.sources", "instruct_data.label_task")


def readable_params(stage: Stage, params: dict[str, Any], claims: list[str]) -> dict[str, Any]:
    """What a stage may read: the claims, and what run ids are made of. Two stages compare those of all others."""
    if stage.module in COMPARES_RUN_IDS:
        kept = copy.deepcopy(params)
        for claim in set(stage.params) - set(claims):
            *parents, last = claim.split(".")
            del (lookup(kept, ".".join(parents)) if parents else kept)[last]
        return kept
    named = [] if stage.module == "fetch" else ["fetch.assets", "ingest.path", "ingest.sources", *INSTRUCT]
    return claimed_params(params, [*named, *claims])


def test_a_run_id_is_of_what_a_stage_declares_and_of_the_sources(stages: list[Stage]) -> None:
    pipeline, params = read_pipeline(), read_template_params()
    for stage in stages:
        for file in [out for out in stage.outs if out.endswith(".json") and not out.startswith("metrics/cost")]:
            found = run_id(file, pipeline, readable_params(stage, params, stage.params))
            assert found == run_id(file, pipeline, params) is not None, file


@dataclass(frozen=True)
class Run:
    """What the hermetic run of the whole pipeline left behind."""

    store: Path
    params: dict[str, Any]
    stages: list[Stage]
    extra_files: dict[str, set[str]]


@pytest.fixture(scope="module")
def hermetic_run(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Run every stage in its own folder with its declared inputs alone, in the order of the pipelines."""
    store = tmp_path_factory.mktemp("pipeline") / "store"
    params = write_pipeline_copy(repository, store, tiny_encoder, tiny_chat_model, feedback_rows=240)
    stages = resolved_stages(read_pipeline(), params)
    extra_files = {}
    for stage in stages:
        folder = tmp_path_factory.mktemp("hermetic") / stage.name.replace("@", "_")
        isolated(stage, store, params, folder)
        before = files_below(folder)
        codes, said = run_in_forks([[str(folder), *stage.command[2:]]], folder)
        assert codes == [0], f"{stage.name} fails on its declared inputs alone:\n{said}"
        made = files_below(folder) - before
        for out in stage.outs:
            assert (folder / out).exists(), f"{stage.name} did not write {out}"
            copy_path(folder / out, store / out)
        declared = {path for path in made if any(path == out or path.startswith(f"{out}/") for out in stage.outs)}
        extra_files[stage.name] = made - declared
    return Run(store, params, stages, extra_files)


@pytest.mark.slow
def test_stages_need_no_more_than_they_declare_and_write_no_more(hermetic_run: Run) -> None:
    assert {name: extra for name, extra in hermetic_run.extra_files.items() if extra} == {}


@pytest.mark.slow
def test_no_row_disappears(hermetic_run: Run) -> None:
    for name in ROW_STAGES:
        metrics = json.loads((hermetic_run.store / f"metrics/{name}.json").read_text())
        assert metrics["rows_in"] == metrics["rows_out"] + sum(metrics["removed"].values()), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_fails_without_any_one_of_its_declared_inputs(hermetic_run: Run, tmp_path: Path) -> None:
    """Of the code, `test_declared_code_is_the_imported_code` says the same without running it."""
    needless = []
    # Matrix stages share their declarations: the approach that uses all of them stands for the rest.
    stages = [s for s in hermetic_run.stages if "@" not in s.name or s.name.endswith(("@wordnet", "@lora"))]
    for stage in stages:
        claims = [dep for dep in stage.deps if not is_code(dep) and dep not in KEPT_FOLDERS] + stage.params
        folders = [tmp_path / f"{stage.name.replace('@', '_')}{position}" for position in range(len(claims))]
        for claim, folder in zip(claims, folders, strict=True):
            isolated(stage, hermetic_run.store, hermetic_run.params, folder)
            if claim in stage.params:
                others = [other for other in stage.params if other != claim]
                write_params(folder, readable_params(stage, hermetic_run.params, others))
            elif (folder / claim).is_dir():
                shutil.rmtree(folder / claim)
            else:
                (folder / claim).unlink()
        codes, _ = run_in_forks([[str(folder), *stage.command[2:]] for folder in folders], folders[0])
        assert len(codes) == len(claims), stage.name
        needless += [(stage.name, claim) for claim, code in zip(claims, codes, strict=True) if code == 0]
    assert needless == []
