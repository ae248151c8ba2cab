"""Is `params.yaml` right? Every section, by the class that its stage reads it with, before anything runs.

Part of `make repro` and of `make doctor`; `python -m tools.params.check` does it alone. All problems are named at once:
of each section, of lists that need each other, and of sections that nothing reads.
"""

import difflib
import hashlib
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import DEFAULTS, PARAMS_FILE, load_params
from tools.run.stale_outputs import require_consistent_lists

CODE = tuple(Path(__file__).parents[2] / name for name in ("assay", "stages", "tools"))
FOUND_RIGHT = Path(".dvc/tmp/params_found_right")
"""The digest of what was checked last and was right; not in git."""


def section_types() -> dict[str, Any]:
    """What each section is read as; `finetune` and `sft` hold blocks of approaches, each of the type given."""
    from assay.annotation.quality import AnnotationQaParams
    from assay.augmentation.make_examples import AugmentParams
    from assay.cleaning.rules import CleanParams
    from assay.compute.device import Compute
    from assay.corpus_profile import ProfileParams
    from assay.embeddings.encoder import EmbedParams
    from assay.fine_tuning import params as finetune_params
    from assay.fine_tuning import sft_params
    from assay.human_review.apply_corrections import CorrectParams
    from assay.instruction_data.params import InstructDataParams
    from assay.language_models.checkpoint import Decoding
    from assay.reward.training import RewardParams
    from assay.sources.records import IngestParams
    from assay.splitting.assignment import SplitParams
    from assay.statistics.classification import EvaluateParams
    from stages.augment_quality import AugmentQualityParams
    from stages.compare_generation import CompareGenerationParams
    from stages.dpo import DpoParams
    from stages.evaluate_generation import EvaluateGenerationParams
    from stages.fetch import FetchParams
    from stages.injected_noise import InjectedNoiseParams
    from stages.label_effect import LabelEffectParams
    from stages.label_errors import LabelErrorsParams
    from stages.ppo import PpoParams
    from stages.preferences import PreferencesParams
    from stages.report import ReportParams
    from stages.review_queue import ReviewQueueParams
    from stages.rloo import RlooParams
    from stages.robustness import RobustnessParams
    from stages.semantic_duplicates import SemanticDuplicatesParams
    from tools.experiments.augment_ablation import AblationParams

    return {
        "seed": int,
        "approaches": list[str],
        "sft_approaches": list[str],
        "optional": dict[str, list[str]],
        "compute": Compute,
        "fetch": FetchParams,
        "ingest": IngestParams,
        "clean": CleanParams,
        "embed": EmbedParams,
        "correct": CorrectParams,
        "semantic_duplicates": SemanticDuplicatesParams,
        "annotation_qa": AnnotationQaParams,
        "split": SplitParams,
        "label_errors": LabelErrorsParams,
        "injected_noise": InjectedNoiseParams,
        "label_effect": LabelEffectParams,
        "augment": AugmentParams,
        "augment_quality": AugmentQualityParams,
        "augment_ablation": AblationParams,
        "profile": ProfileParams,
        "finetune": finetune_params.Approach,
        "evaluate": EvaluateParams,
        "robustness": RobustnessParams,
        "review_queue": ReviewQueueParams,
        "report": ReportParams,
        "language_model": str,
        "instruct_data": InstructDataParams,
        "sft": sft_params.Approach,
        "preferences": PreferencesParams,
        "reward": RewardParams,
        "dpo": DpoParams,
        "rloo": RlooParams,
        "ppo": PpoParams,
        "decoding": Decoding,
        "generation_models": dict[str, str],
        "evaluate_generation": EvaluateGenerationParams,
        "compare_generation": CompareGenerationParams,
    }


def find_problems(path: Path) -> list[str]:
    """What is wrong with a params file, a sentence each. Raises `InputError`: it cannot be read at all."""
    types, problems = section_types(), list[str]()

    def check(section: str, model: Any) -> None:
        try:
            load_params(section, model, path)
        except InputError as error:
            lines = [line.strip() for line in str(error).removeprefix(f"{path}: ").splitlines()]
            # What is wrong in `defaults` is wrong for each block that takes it.
            problems.extend(line for line in lines if line not in problems)

    load_params("seed", object, path)
    params: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, model in types.items():
        blocks = params.get(section)
        if section not in ("finetune", "sft") or not isinstance(blocks, dict):
            check(section, model)
            continue
        for name in blocks:
            if name != DEFAULTS:
                check(f"{section}.{name}", model)
    for section in params:
        if section not in types:
            close = difflib.get_close_matches(str(section), types, n=1)
            problems.append(f"`{section}` is no section" + (f"; did you mean `{close[0]}`?" if close else ""))
    for names, section in (("approaches", "finetune"), ("sft_approaches", "sft")):
        for name in params.get(names) or []:
            if name not in (params.get(section) or {}):
                problems.append(f"`{names}` has {name!r}, and there is no block `{section}.{name}`")
    if not problems:
        try:
            require_consistent_lists(params)
        except InputError as error:
            problems.append(str(error).removeprefix("params.yaml: "))
    return problems


def digest(path: Path) -> str:
    """SHA-256 of a params file and of the code that says what is right."""
    files = [path, *sorted(file for top in CODE for file in top.rglob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def check_params(path: Path = PARAMS_FILE) -> None:
    """Raise `InputError`, which names all that is wrong with a params file.

    The params classes stand beside the code that uses them, so that this imports the model libraries: seven seconds of
    CPU. A file that was found right is not checked again until it or the code changes.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; run from the top of the repository")
    key = digest(path)
    if FOUND_RIGHT.is_file() and FOUND_RIGHT.read_text(encoding="utf-8") == key:
        return
    if problems := find_problems(path):
        raise InputError(f"{path}: {len(problems)} problem(s), and nothing was run\n  " + "\n  ".join(problems))
    if FOUND_RIGHT.parent.parent.is_dir():
        write_text(FOUND_RIGHT, key)


def main() -> None:
    """Check `params.yaml`."""
    check_params()
    print(f"{PARAMS_FILE}: every section is right")


if __name__ == "__main__":
    run_stage(main)
