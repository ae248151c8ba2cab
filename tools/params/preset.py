"""Write a preset into `params.yaml`: `make preset PRESET=full`.

The presets are `presets/*.yaml`; each says at its top what it is. Their lines are dotted paths into `params.yaml` and
the whole value of each, in two parts: `classifiers`, and `language_models`, which is skipped where the language models
are switched off (`optional.instruct_data: []`). Only these values change in the text, and no other line of it (ruamel
would lose the comment after a block with the block), so that `git diff params.yaml` shows the preset alone.
"""

import copy
import json
import textwrap
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import load_params, read_yaml
from tools.changes.revisions import require_committed
from tools.command_line import command_line
from tools.run.stale_outputs import require_consistent_lists

PARAMS = Path("params.yaml")
PRESETS = Path("presets")
PARTS = ("classifiers", "language_models")
ABSENT = "absent"
"""Value of a line by which the key is taken out of `params.yaml`."""


def find_preset(name: str) -> Path:
    """The file of a preset. Raises `InputError`, which lists all with their first line: there is none of that name."""
    file = PRESETS / f"{name}.yaml"
    if name and file.is_file():
        return file
    known = [path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ") for path in sorted(PRESETS.glob("*.yaml"))]
    unknown = f"{PRESETS}: no preset {name!r}" if name else "say which preset: make preset PRESET=full"
    raise InputError("\n  ".join([f"{unknown}; there are", *known]))


def block_of(params: dict[str, Any], dotted: str, file: Path) -> dict[str, Any]:
    """The block of `params` that a path of the preset in `file` leads into. Raises `InputError`: there is none."""
    block = params
    *parents, _ = dotted.split(".")
    for depth, key in enumerate(parents):
        inner = block.get(key)
        if not isinstance(inner, dict):
            raise InputError(
                f"{file}: `{dotted}` leads into `{'.'.join(parents[: depth + 1])}`, and params.yaml has no such block: "
                "put the block back, or take the line out of the preset"
            )
        block = inner
    return block


def read_preset(file: Path, params: dict[str, Any]) -> dict[str, Any]:
    """The lines of a preset that go with `params`: dotted path → value.

    Raises `InputError`: as of `read_yaml`, or it has other parts.
    """
    preset = read_yaml(file)
    if not isinstance(preset, dict) or set(preset) != set(PARTS) or not all(isinstance(preset[p], dict) for p in PARTS):
        raise InputError(f"{file}: a mapping with the parts {', '.join(PARTS)} is needed, and nothing else")
    is_off = params.get("optional", {}).get("instruct_data") == []
    return {**preset[PARTS[0]], **({} if is_off else preset[PARTS[1]])}


def apply_preset(params: dict[str, Any], lines: dict[str, Any], file: Path) -> dict[str, Any]:
    """A copy of `params` with the lines of a preset in it.

    Raises `InputError`: a block is missing, also that of an approach, or lists do not go together.
    """
    result = copy.deepcopy(params)
    for dotted, value in lines.items():
        block, last = block_of(result, dotted, file), dotted.rpartition(".")[2]
        if value == ABSENT:
            block.pop(last, None)
        else:
            block[last] = copy.deepcopy(value)
    for names, section in (("approaches", "finetune"), ("sft_approaches", "sft")):
        if missing := [name for name in result[names] if name not in result.get(section, {})]:
            raise InputError(
                f"{file}: `{names}` has {', '.join(missing)}, and params.yaml has no block `{section}.{missing[0]}`: "
                "put the block back, or take the name out of the preset"
            )
    require_consistent_lists(result)
    return result


def end_of(node: yaml.Node) -> int:
    """Where the text of a node ends; that of a block ends with its last value, before the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return end_of(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.index


def node_at(root: Any, dotted: str) -> Any:
    """The node at a dotted path below one, itself at an empty path."""
    for name in filter(None, dotted.split(".")):
        root = next(value for key, value in root.value if key.value == name)
    return root


def value_text(text: str, key: yaml.Node, value: yaml.Node) -> str:
    """The text of a value as it stands after `key:`; a block starts with a line end, and has no indent in common."""
    start, end = value.start_mark.index, end_of(value)
    if value.start_mark.line == key.start_mark.line:
        return f" {text[start:end]}"
    return "\n" + textwrap.dedent(text[text.rindex("\n", 0, start) + 1 : end])


def find_edit(text: str, root: Any, dotted: str, new: str | None) -> tuple[int, int, str]:
    """Start and end of what changes in `text`, whose document is `root`, and what stands there afterwards."""
    parent, _, last = dotted.rpartition(".")
    root = node_at(root, parent)
    key, value = next((pair for pair in root.value if pair[0].value == last), (None, None))
    start = (key or root.value[0][0]).start_mark
    head, line_end, below = (new or "").partition("\n")
    below = textwrap.indent(below, " " * (start.column + 2))
    if key is None or value is None:
        separator = ", " if root.flow_style else "\n" + " " * start.column
        return start.index, start.index, f"{last}:{head}{line_end}{below}{separator}"
    end, end_of_line = end_of(value), text.index("\n", start.index)
    if new is None and root.flow_style:
        following = [other.start_mark.index for other, _ in root.value if other.start_mark.index > start.index]
        return start.index, min(following, default=end), ""
    if new is None:
        return start.index - start.column, text.index("\n", end) + 1, ""
    after_colon, is_inline = key.end_mark.index + 1, value.start_mark.line == start.line
    if is_inline and not line_end:
        return after_colon, end, head
    comment = text[end if is_inline else after_colon : end_of_line]
    return after_colon, max(end, end_of_line), head + comment + line_end + below


def replace_values(text: str, values: dict[str, str | None]) -> str:
    """The text of `params.yaml` with other values at some paths, as `value_text` gives them; None: without the key.

    A comment at the end of a key's line stays there. A key that is not there yet becomes the first of its block.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    edits = [find_edit(text, root, dotted, new) for dotted, new in values.items()]
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def edit_values(text: str, values: dict[str, Any]) -> str:
    """The text of `params.yaml` with other values at dotted paths, written by PyYAML; `ABSENT` takes a key out."""
    params, changed = yaml.safe_load(text), dict[str, str | None]()
    for dotted, value in values.items():
        if block_of(params, dotted, PARAMS).get(dotted.rpartition(".")[2], ABSENT) == value:
            continue
        is_block = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
        style = None if is_block else True
        # A copy through JSON, in which no part is an alias of another.
        plain = json.loads(json.dumps(value))
        new = yaml.safe_dump(plain, default_flow_style=style, sort_keys=False, allow_unicode=True, width=10**6)
        changed[dotted] = None if value == ABSENT else ("\n" if is_block else " ") + new.removesuffix("...\n").rstrip()
    return replace_values(text, changed)


def write_preset(text: str, file: Path) -> tuple[str, list[str]]:
    """The text of `params.yaml` with a preset in it, and a line `key: before → after` for each value that changed.

    Raises `InputError`: as `read_preset` and `apply_preset` do.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    params = yaml.safe_load(text)
    lines = read_preset(file, params)
    wanted = apply_preset(params, lines, file)
    source = file.read_text(encoding="utf-8")
    root: Any = yaml.compose(source, yaml.SafeLoader)
    nodes = {key.value: value_text(source, key, value) for _, part in root.value for key, value in part.value}
    before = {dotted: block_of(params, dotted, file).get(dotted.rpartition(".")[2], ABSENT) for dotted in lines}
    changed = {dotted: value for dotted, value in lines.items() if before[dotted] != value}
    text = replace_values(text, {key: None if value == ABSENT else nodes[key] for key, value in changed.items()})
    assert yaml.safe_load(text) == wanted, f"{file}: params.yaml would not read as the preset says"
    return text, [f"{dotted}: {describe(before[dotted])} → {describe(value)}" for dotted, value in changed.items()]


def describe(value: Any) -> str:
    """A value in one line: of a mapping its keys, of a list of mappings how many they are."""
    if isinstance(value, dict):
        return f"{{{', '.join(value)}}}"
    if isinstance(value, list):
        is_long = any(isinstance(item, dict) for item in value)
        return f"{len(value)} entries" if is_long else f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value)


def main() -> None:
    """Change the params file."""
    parser = command_line("python -m tools.params.preset", __doc__)
    parser.add_argument("preset", nargs="?", default="", help="name of a file in presets/, such as full")
    file = find_preset(parser.parse_args().preset)
    require_committed(PARAMS)
    load_params("optional", dict[str, list[str]])  # raises where the file is no YAML, or without lists
    text, changes = write_preset(PARAMS.read_text(encoding="utf-8"), file)
    if not changes:
        print(f"{PARAMS} has the values of {file} already")
        return
    write_text(PARAMS, text)
    print("\n".join(changes))
    print(f"\n{file.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    print(f"{len(changes)} values of {PARAMS} changed: look at `git diff {PARAMS}`, then `make repro`")


if __name__ == "__main__":
    run_stage(main)
