"""The language models of `generation_models` by name."""

from pathlib import Path

from assay.core.errors import InputError
from assay.core.params import PARAMS_FILE, load_params

BASE, BASE_FOLDER = "base", "models/base"
"""`base` is `language_model`. Beside its name stands a folder that holds base models, since DVC puts params into
`dvc.yaml`, but none into another param."""


def load_generation_models(path: Path = PARAMS_FILE) -> dict[str, str]:
    """Folder of each model by name; an `InputError` if one is given for `base`, which would have no effect."""
    models = load_params("generation_models", dict[str, str], path)
    base = load_params("language_model", str, path)
    if (given := models.get(BASE, BASE_FOLDER)) != BASE_FOLDER:
        raise InputError(
            f"{path}: `generation_models.{BASE}` = {given!r} has no effect: the base model is `language_model`; "
            f"write {BASE_FOLDER}"
        )
    return {name: base if name == BASE else folder for name, folder in models.items()}
