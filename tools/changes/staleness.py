"""Whether metrics are of this code, these params and these data, by `dvc.lock` and what git tracks."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from assay.core.results import lookup

IN_GIT = ("stages/", "assay/", "metrics/")
"""Dependencies in `dvc.lock` that git tracks."""
CLOCK = "metrics/cost"
"""Differs from run to run on the same input, and makes nothing stale."""

Lock = dict[str, Any] | None


def hashes(*entries: dict[str, Any], kind: str = "outs") -> dict[str, str]:
    """Path of each output (or of `deps`) of entries of a lock → its hash."""
    found = [one for entry in entries for one in entry.get(kind, [])]
    return {str(one["path"]): str(one.get("md5") or one.get("etag") or one.get("checksum")) for one in found}


def dvc_hash(path: Path) -> str:
    """MD5 of a file, or of a folder's listing, as DVC writes them in `dvc.lock`; compiled modules do not count."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    listing = [{"md5": dvc_hash(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def stale_stages(lock: Lock, old_lock: Lock, params: Any, root: Path) -> dict[str, str]:
    """Stages whose metrics are of other params, code or data → what has changed.

    Data is looked up in the lock: what a stage read is compared with what the stage before it wrote last. Of a part of
    an output, the lock has no hash: it counts as changed if it lies there and is another; if not, the stage is named
    with a question mark where the output is another than the base's, and the stage has not run since.
    """
    stages, old_stages = ((one or {}).get("stages") or {} for one in (lock, old_lock))
    outs, old_outs = hashes(*stages.values()), hashes(*old_stages.values())

    def state(path: str, read: str, read_before: str | None) -> str:
        if path in outs:
            return path if outs[path] != read else ""
        if (pointer := root / f"{path}.dvc").is_file():
            return path if hashes(yaml.safe_load(pointer.read_text(encoding="utf-8"))).get(path) != read else ""
        if path.startswith(IN_GIT) or (root / path).is_file():
            return path if not (root / path).exists() or dvc_hash(root / path) != read else ""
        parts = [out for out in outs if f"{out}/".startswith(f"{path}/") or path.startswith(f"{out}/")]
        if read != read_before or all(outs[out] == old_outs.get(out) for out in parts):
            return ""
        return path if parts[0].startswith(path) else f"{path}?"

    stale = {}
    for name, stage in stages.items():
        recorded = (stage.get("params") or {}).get("params.yaml") or {}
        before = hashes(old_stages.get(name, {}), kind="deps")
        read = {path: md5 for path, md5 in hashes(stage, kind="deps").items() if path != CLOCK}
        changed = [found for path, md5 in read.items() if (found := state(path, md5, before.get(path)))]
        if recorded != {key: lookup(params, key) for key in recorded}:
            changed.insert(0, "params.yaml")
        if changed:
            stale[name] = min(changed, key=lambda path: path.endswith("?"))
    return stale
