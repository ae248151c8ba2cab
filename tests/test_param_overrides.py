"""`dvc exp run -S …` of the committed pipeline: each override changes exactly the stages that it says."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.fine_tuning import params as finetune
from assay.fine_tuning import sft_params
from assay.language_models.named_models import load_generation_models
from tests.own_process import commit_all, git, run_python
from tests.template_params import FILE
from tests.test_pipeline import claimed_params, resolved_stages

Approach: Any = finetune.Approach
SftApproach: Any = sft_params.Approach
LANGUAGE_MODEL_STAGES = {"sft", "preferences", "reward", "dpo", "rloo", "ppo", "instruct_data", "evaluate_generation"}


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `dvc.yaml` and `params.yaml` alone: an experiment is queued there, never run."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(repository / name, folder)
    shutil.copy(FILE, folder / "params.yaml")
    commit_all(folder)
    run_python("-m", "dvc", "init", "-q", cwd=folder)
    run_python("-m", "dvc", "config", "core.analytics", "false", cwd=folder)
    commit_all(folder)
    return folder


def overridden(project: Path, override: str, target: Path) -> Path:
    """The params file of an experiment with the override, as DVC would run it."""
    run_python("-m", "dvc", "exp", "run", "--queue", "-S", override, cwd=project)
    target.write_text(git("show", "refs/exps/celery/stash:params.yaml", cwd=project))
    return target


def changed_stages(project: Path, after: Path) -> set[str]:
    """The resolved stages of which a dependency or a param that they declare is another one."""
    pipeline = yaml.safe_load((project / "dvc.yaml").read_text())
    seen: list[dict[str, Any]] = []
    for file in (project / "params.yaml", after):
        params = yaml.safe_load(file.read_text())
        stages = resolved_stages(pipeline, params)
        seen.append({stage.name: (stage.deps, claimed_params(params, stage.params)) for stage in stages})
    before, now = seen
    assert before.keys() == now.keys()
    return {name for name in before if before[name] != now[name]}


@pytest.mark.slow
def test_an_override_of_a_default_is_of_all_approaches(project: Path, tmp_path: Path) -> None:
    after = overridden(project, "finetune.defaults.batch_size=16", tmp_path / "params.yaml")
    approaches = load_params("approaches", list[str], after)
    sizes = {name: getattr(load_params(f"finetune.{name}", Approach, after), "batch_size", None) for name in approaches}
    # The baselines have no batches, and the block of the linear probe overrides the default.
    others = {"majority": None, "tfidf": None, "linear_probe": 64}
    assert sizes == dict.fromkeys(approaches, 16) | others
    assert changed_stages(project, after) == {"report", *(f"finetune@{name}" for name in approaches)}


@pytest.mark.slow
@pytest.mark.parametrize("override", ["finetune.lora.rank=8", "++finetune.lora.weight_decay=0.5"])
def test_an_override_of_a_block_is_of_one_approach(override: str, project: Path, tmp_path: Path) -> None:
    after = overridden(project, override, tmp_path / "params.yaml")
    key, value = override.rpartition(".lora.")[2].split("=")
    for name in load_params("approaches", list[str], after):
        block = f"finetune.{name}"
        before, now = (load_params(block, Approach, file) for file in (project / "params.yaml", after))
        expected = {key: type(getattr(before, key))(value)} if name == "lora" else {}
        assert now.model_dump() == before.model_dump() | expected
    assert changed_stages(project, after) == {"finetune@lora", "report"}


@pytest.mark.slow
def test_an_override_of_the_language_model_is_of_all_that_use_it(project: Path, tmp_path: Path) -> None:
    after = overridden(project, "language_model=models/base/other", tmp_path / "params.yaml")
    stages = resolved_stages(yaml.safe_load((project / "dvc.yaml").read_text()), yaml.safe_load(after.read_text()))
    of_it = {stage.name for stage in stages if stage.name.partition("@")[0] in LANGUAGE_MODEL_STAGES}
    assert "evaluate_generation@base" in of_it
    assert changed_stages(project, after) == {"report", *of_it}
    for stage in stages:
        assert ("models/base/other" in stage.deps) == (stage.name in of_it), stage.name
        # It is fetched as an asset, and nothing else knows where it was.
        assert "models/base/smollm2" not in [*stage.deps, *stage.outs] or stage.name == "fetch@smollm2", stage.name
    assert load_generation_models(after)["base"] == "models/base/other"


@pytest.mark.slow
def test_an_override_of_a_default_of_sft_is_of_all_its_approaches(project: Path, tmp_path: Path) -> None:
    after = overridden(project, "sft.defaults.max_length_tokens=256", tmp_path / "params.yaml")
    approaches = load_params("sft_approaches", list[str], after)
    lengths = [load_params(f"sft.{name}", SftApproach, after).max_length_tokens for name in approaches]
    assert lengths == [256] * len(approaches)
    assert changed_stages(project, after) == {f"sft@{name}" for name in approaches}


@pytest.mark.parametrize("section", ["finetune", "sft"])
def test_defaults_are_no_approach(section: str, repository: Path) -> None:
    model = {"finetune": Approach, "sft": SftApproach}[section]
    with pytest.raises(InputError, match=rf"`{section}\.defaults` is no block of its own"):
        load_params(f"{section}.defaults", model, repository / "params.yaml")


def test_a_folder_given_for_the_base_model_has_no_effect_and_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("language_model: models/base/a\ngeneration_models: {base: models/base/b, dpo: models/dpo}\n")
    with pytest.raises(
        InputError, match=r"`generation_models\.base` = 'models/base/b' has no effect.*`language_model`"
    ):
        load_generation_models(path)
    path.write_text("language_model: models/base/a\ngeneration_models: {base: models/base, dpo: models/dpo}\n")
    assert load_generation_models(path) == {"base": "models/base/a", "dpo": "models/dpo"}
