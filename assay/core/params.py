"""`params.yaml` → validated, frozen params of one stage."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import polars as pl
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from assay.core.errors import InputError

PARAMS_FILE = Path("params.yaml")
RENAMED = {
    "l2_strength": "C",
    "l2_strengths": "Cs",
    "probe_l2_strength": "probe_C",
    "accumulation_steps": "gradient_accumulation_steps",
    "max_gradient_norm": "max_grad_norm",
    "looks_at_validation": "num_evaluations",
    "virtual_tokens": "num_virtual_tokens",
    "initial_beta": "initial_kl_coefficient",
    "discount": "gamma",
    "entropy_bonus": "entropy_coefficient",
    "missing_end_penalty": "missing_eos_penalty",
}
"""Keys of earlier versions, and what they are called now."""

_FLOAT_WITHOUT_POINT = re.compile(r"[+-]?\d+[eE][+-]?\d+")


class Params(BaseModel):
    """Base of every params class: strict types, frozen, unknown keys forbidden, no defaults."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


P = TypeVar("P")


def _compiled(pattern: str) -> str:
    """The pattern, if Polars can use it."""
    try:
        pl.select(pl.lit("").str.contains(pattern))
    except pl.exceptions.ComputeError as error:
        reason = str(error).split("\n\n")[0].splitlines()[-1].removeprefix("error: ")
        raise ValueError(
            f"no regular expression that Polars can use: {reason}; there are no look-around and back-references, so "
            "that its time is linear in the text"
        ) from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiled)]
"""A regular expression of Rust's, as Polars uses them."""


def load_params(section: str, model: type[P], path: Path = PARAMS_FILE) -> P:
    """Validate one section of the params file.

    Args:
        section: dotted path of the section, such as `clean` or `finetune.lora`.
        model: what the section must look like: a `Params` class, or any type Pydantic knows (`int`, a union).
        path: the params file.

    Raises:
        InputError: no such file or section, or a wrong key, type or value; names the dotted path, the value seen and
            what is allowed.
    """
    try:
        node: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the top of the repository") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    seen: list[str] = []
    for key in section.split("."):
        if not isinstance(node, dict) or key not in node:
            known = sorted(node) if isinstance(node, dict) else []
            raise InputError(
                f"{path}: section `{'.'.join([*seen, key])}` is missing; `{'.'.join(seen) or path}` has {known}"
            )
        node = node[key]
        seen.append(key)
    try:
        return TypeAdapter(model).validate_python(node)
    except ValidationError as error:
        lines = [_describe(section, model, detail) for detail in error.errors()]
        raise InputError(f"{path}: " + "\n  ".join(lines)) from None


def _describe(section: str, model: Any, detail: Any) -> str:
    """One validation failure as a sentence with dotted path, value seen and what is allowed."""
    location = [str(part) for part in detail["loc"]]
    dotted = ".".join([section, *location])
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], getattr(model, "model_fields", {}), n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        if location[-1] in RENAMED:
            hint = f"; it is now called `{RENAMED[location[-1]]}`"
        return f"`{dotted}` = {value!r} is not a known key{hint}"
    if detail["type"] == "missing":
        return f"`{dotted}` is missing; every key must be given"
    hint = ""
    if isinstance(value, str) and _FLOAT_WITHOUT_POINT.fullmatch(value):
        mantissa, exponent = re.split("[eE]", value)
        hint = f"; YAML reads {value} as text: write {mantissa}.0e{exponent}"
    return f"`{dotted}` = {value!r}: {detail['msg']}{hint}"
