"""`params.yaml` → validated, frozen params of one stage."""

import copy
import difflib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import polars as pl
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from assay.core.errors import InputError, require_no_credentials

PARAMS_FILE = Path("params.yaml")
DEFAULTS = "defaults"
"""Name of the block whose keys hold for the blocks beside it."""
SOURCE_DEFAULTS = "source_defaults"
"""Name of the block whose keys hold for every entry of the list `sources` beside it."""
MAX_DEPTH, MAX_VALUES = 50, 100_000
"""Of a YAML file: how deep it may be nested, and how many values it may have with its aliases written out."""
_FLOAT_WITHOUT_POINT = re.compile(r"[+-]?\d+[eE][+-]?\d+")


class Params(BaseModel):
    """Base of every params class: strict types, no `.nan` or `.inf`, frozen, unknown keys forbidden, no defaults."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="forbid")


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

Address = Annotated[str, Field(min_length=1), AfterValidator(require_no_credentials)]
"""Where something comes from: an address without credentials, a path, or what people write."""


def load_params(section: str, model: type[P], path: Path = PARAMS_FILE) -> P:
    """Validate one section of the params file.

    A block takes the keys that it does not give from the block `defaults` beside it: `finetune.lora` from
    `finetune.defaults`. Of a union of classes, each takes those defaults alone that it has a field for. An entry of
    `sources` takes what it does not give from `source_defaults` beside the list, mappings key by key.

    `section` is a dotted path, such as `clean` or `finetune.lora`; `model` a `Params` class or any type Pydantic knows.

    Raises `InputError`: no such file or section, or a wrong key, type or value; names the dotted path where it was
    read, the value seen and what is allowed.
    """
    node, defaults = _read_section(section, path)
    of_defaults = f"{section.rpartition('.')[0]}.{DEFAULTS}"
    classes = _classes(model)
    known = [name for one in classes for name in one.model_fields]
    if unknown := [key for key in defaults if key not in known]:
        lines = [f"`{of_defaults}.{key}` = {defaults[key]!r}{_unknown_key(key, known)}" for key in unknown]
        raise InputError(f"{path}: " + "\n  ".join(lines))
    # One class of a union: the defaults that it takes are known, and errors do not repeat its tag.
    chosen: Any = _class_of(node, classes) if node is not None else None
    written = node
    if isinstance(node, dict) and SOURCE_DEFAULTS in node and isinstance(node.get("sources"), list):
        node = _fill_sources(node, f"{path}: `{section}.{SOURCE_DEFAULTS}`")
    fields = chosen.model_fields if chosen else {}
    inherited = {key: value for key, value in defaults.items() if key in fields and key not in node}
    given = inherited | node if inherited else node
    try:
        return TypeAdapter[P](chosen or model).validate_python(given, strict=True)
    except ValidationError as error:
        places: dict[tuple[str, ...], list[Any]] = {}
        for detail in error.errors():
            read_in = of_defaults if detail["loc"] and detail["loc"][0] in inherited else section
            keys = _keys(given, detail)
            if node is not written and _holds(node, keys) and not _holds(written, keys):
                keys = [SOURCE_DEFAULTS, *keys[2:]]
            places.setdefault((read_in, *keys), []).append(detail)
        lines = [_describe(place, list(fields), details) for place, details in places.items()]
        raise InputError(f"{path}: " + "\n  ".join(lines)) from None


def _fill_sources(section: dict[str, Any], place: str) -> dict[str, Any]:
    """A section without its `source_defaults`, which its sources have instead. Raises `InputError`: no mapping."""
    defaults = section[SOURCE_DEFAULTS]
    if not isinstance(defaults, dict):
        raise InputError(f"{place} = {defaults!r}: a mapping of keys to values is needed")
    filled = {key: value for key, value in section.items() if key != SOURCE_DEFAULTS}
    return filled | {"sources": [_merged(defaults, source) for source in section["sources"]]}


def _merged(defaults: Any, given: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(given, dict)):
        return given
    return defaults | {key: _merged(defaults.get(key), value) for key, value in given.items()}


def _holds(block: Any, keys: Sequence[str]) -> bool:
    """Whether a block gives what dotted `keys` name."""
    for key in keys:
        if isinstance(block, dict) and key not in block:
            return False
        if not isinstance(block, dict | list):
            return True
        block = block[int(key)] if isinstance(block, list) else block[key]
    return True


def read_yaml(path: Path) -> Any:
    """As `parse_yaml`, of a file. Raises `InputError` also where it is not there, or not UTF-8."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the top of the repository") from None
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise InputError(f"{path}: line {line}: byte {byte:#x} is not UTF-8; save the file as UTF-8") from None


@cache
def parse_yaml(text: str, path: Path) -> Any:
    """What the YAML of a file holds, parsed once a process by a safe loader, of C if it is there; not to be changed.

    Raises `InputError`: it is no YAML, is nested or unfolds beyond measure, or a key stands twice or is no text.
    """
    depth, loader = 0, getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # By events first: to build nodes of any depth ends the process.
        event: Any
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1
                raise InputError(f"{path}: line {line}: nested more than {MAX_DEPTH} deep; write it flatter")
        if _unfolded(yaml.compose(text, Loader=loader), {}, path) > MAX_VALUES:
            raise InputError(f"{path}: its aliases unfold to more than {MAX_VALUES:,} values; write out some of them")
        return yaml.load(text, Loader=loader)  # noqa: S506
    except yaml.YAMLError as error:
        said = re.sub(r"\s+", " ", str(error).replace(' in "<unicode string>",', "at"))
        raise InputError(f"{path}: not valid YAML: {said}; mend it there") from None


def _unfolded(node: Any, counted: dict[int, float], path: Path) -> float:
    """How many values a node has with its aliases written out. Raises `InputError`: a key twice, or not a text."""
    if id(node) not in counted:
        counted[id(node)], seen = float("inf"), set[str]()  # if it holds itself
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            place = f"{path}: line {key.start_mark.line + 1}: the key {key.value!r}"
            if not key.tag.endswith((":str", ":merge")):
                raise InputError(f"{place} is no text in YAML; put it in quotes")
            if key.value in seen:
                raise InputError(f"{place} stands twice in its mapping; take one out")
            seen.add(key.value)
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        values = (one[1] if isinstance(one, tuple) else one for one in below)
        counted[id(node)] = 1 + sum(_unfolded(value, counted, path) for value in values)
    return counted[id(node)]


def _read_section(section: str, path: Path) -> tuple[Any, dict[str, Any]]:
    """A section as it stands in the file, and the defaults beside it: none where it is no block.

    Raises `InputError`: no such file or section, `defaults` is no mapping, or it is asked for as if it were a block.
    """
    node: Any = read_yaml(path)
    *parents, last = section.split(".")
    seen: list[str] = []
    beside: Any = {}
    for key in [*parents, last]:
        if not isinstance(node, dict) or key not in node:
            known = sorted(set(node) - {DEFAULTS}) if isinstance(node, dict) else []
            raise InputError(
                f"{path}: section `{'.'.join([*seen, key])}` is missing; `{'.'.join(seen) or path}` has {known}"
            )
        beside = node.get(DEFAULTS, {}) if seen else {}
        node = node[key]
        seen.append(key)
    if parents and last == DEFAULTS:
        raise InputError(f"{path}: `{section}` is no block of its own: its keys hold for the blocks beside it")
    if not isinstance(beside, dict):
        place = ".".join([*parents, DEFAULTS])
        raise InputError(f"{path}: `{place}` = {beside!r}: a mapping of keys to values is needed")
    # The tree is everybody's.
    return copy.deepcopy((node, beside if isinstance(node, dict) else {}))


def _classes(model: Any) -> list[type[BaseModel]]:
    """The params classes of a union, or the one that the model is; none of another type, such as `int`."""
    if get_origin(model) is Annotated:
        return _classes(get_args(model)[0])
    if get_origin(model) in (Union, UnionType):
        return [one for member in get_args(model) for one in _classes(member)]
    return [model] if isinstance(model, type) and issubclass(model, BaseModel) else []


def _class_of(node: Any, classes: list[type[BaseModel]]) -> type[BaseModel] | None:
    """The class that validates a block: the only one, or the one of its `method`; None if that is not clear."""
    if len(classes) == 1:
        return classes[0]
    method = node.get("method") if isinstance(node, dict) else None
    tagged = [one for one in classes if "method" in one.model_fields]
    fits = [one for one in tagged if method in get_args(one.model_fields["method"].annotation)]
    return fits[0] if len(fits) == 1 else None


def _unknown_key(key: str, known: list[str]) -> str:
    """What is said of a key that no field has: the one that was probably meant."""
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"did you mean `{close[0]}`?" if close else "keys that got other names are in CHANGELOG.md"
    return f" is not a known key; {meant}"


def _keys(node: Any, detail: Any) -> list[str]:
    """Where a failure is, by the keys of the file alone: Pydantic puts in the names of a union's branches."""
    keys = []
    for part in detail["loc"]:
        if isinstance(node, list) or (isinstance(node, dict) and part in node):
            node = node[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        keys.append(str(part))
    return keys


def _allowed(detail: Any) -> str:
    """What a failure says of the values that are allowed, in words of YAML."""
    tag = detail.get("ctx", {}).get("discriminator")
    if detail["type"] == "union_tag_not_found":
        return f"Input should be a mapping with the key {tag}"
    if detail["type"] == "union_tag_invalid":
        return f"Input should be a mapping whose {tag} is one of {detail['ctx']['expected_tags']}"
    return re.sub(r"dictionary or instance of \w+|dictionary", "mapping of keys to values", detail["msg"])


def _describe(place: tuple[str, ...], known: list[str], details: list[Any]) -> str:
    """The failures at one place as a sentence with dotted path, value seen and what is allowed."""
    detail = details[0]
    dotted, value = ".".join(place), detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"`{dotted}` = {value!r}{_unknown_key(place[-1], known)}"
    if detail["type"] == "missing":
        return f"`{dotted}` is missing; every key must be given"
    hint = ""
    if isinstance(value, str) and _FLOAT_WITHOUT_POINT.fullmatch(value):
        mantissa, exponent = re.split("[eE]", value)
        hint = f"; YAML reads {value} as text: write {mantissa}.0e{exponent}"
    allowed, *others = dict.fromkeys(map(_allowed, details))
    allowed = " or ".join([allowed, *(one.removeprefix("Input should be ") for one in others)])
    # What is wrong with a whole block is not seen in it.
    seen = "" if isinstance(value, dict) and detail["type"] == "value_error" else f" = {value!r}"
    return f"`{dotted}`{seen}: {allowed}{hint}"
