"""Download one asset, verify its SHA-256 and unpack it: `python -m stages.fetch <asset>`.

Reads section `fetch`; writes the asset's `path`, `metrics/fetch/<asset>.json` and `metrics/cost/fetch/<asset>.json`. It
decides nothing, and runs no code of what it downloads. What `source`, `unpack` and `convert` may be: docs/pipeline.md,
"Assets". What was downloaded and verified stays in `.cache/fetch/<sha256>/`, so that fetching again needs no network.
"""

import shutil
import sys
import time
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json
from assay.core.params import Address, Params, load_params
from assay.core.results import write_metrics
from assay.sources.archives import folder_size, strip_carriage_returns, unpack
from assay.sources.downloads import HUB_SOURCE, download_snapshot, is_local, obtain
from assay.sources.package_index import MIB, PYPI_SOURCE

ASSET_ROOTS = ("data", "models")


class Asset(Params):
    """One entry of `fetch.assets`. `licence` and `cite` are what the report says about it."""

    source: Address
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    unpack: Annotated[list[str], Field(min_length=1)] | None
    convert: Literal["strip_carriage_returns", "gguf_to_safetensors"] | None
    path: str
    licence: str
    cite: str

    @field_validator("path")
    @classmethod
    def _below_a_root(cls, path: str) -> str:
        """The stage replaces the whole folder, so it must be one of its own."""
        parts = PurePosixPath(path).parts
        if len(parts) < 2 or parts[0] not in ASSET_ROOTS or ".." in parts:
            raise ValueError(f"must be a folder below {' or '.join(f'{root}/' for root in ASSET_ROOTS)}")
        return path

    @model_validator(mode="after")
    def _pinned(self) -> "Asset":
        if self.source.startswith("pypi:") and not PYPI_SOURCE.fullmatch(self.source):
            raise ValueError(f"source {self.source!r} must be pypi:NAME==VERSION")
        if self.source.startswith("hf:"):
            if not HUB_SOURCE.fullmatch(self.source):
                raise ValueError(
                    f"source {self.source!r} must be hf:OWNER/NAME@REVISION or hf:datasets/OWNER/NAME@REVISION, "
                    "with the 40 hexadecimal digits of a commit"
                )
            if self.sha256 or self.unpack:
                raise ValueError("a hub source is pinned by its revision; `sha256` and `unpack` must be null")
        elif self.sha256 is None and not is_local(self.source):
            raise ValueError(f"source {self.source!r} is downloaded, so `sha256` must say what is expected")
        return self


class FetchParams(Params):
    """Section `fetch`."""

    max_unpacked_mib: Annotated[int, Field(ge=1)]
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)]
    assets: dict[Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")], Asset]


def put_source(name: str, asset: Asset, params: FetchParams, folder: Path) -> int:
    """Put what the source holds into a folder; the number of bytes of the download, 0 of a local folder."""
    if asset.source.startswith("hf:"):
        download_snapshot(asset.source, folder, params.timeout_seconds)
        return folder_size(folder)[1]
    if is_local(asset.source) and Path(asset.source).is_dir():
        if asset.sha256 or asset.unpack:
            raise InputError(f"{asset.source}: is a folder, so `sha256` and `unpack` of {name} must be null")
        shutil.copytree(asset.source, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        return 0
    archive = obtain(name, asset.source, asset.sha256, params.timeout_seconds)
    if asset.unpack:
        unpack(archive, asset.unpack, folder, params.max_unpacked_mib * MIB)
    else:
        shutil.copyfile(archive, folder / archive.name)
    return archive.stat().st_size


def convert(name: str, conversion: str | None, folder: Path) -> None:
    """Convert the files of a folder in place."""
    if conversion == "strip_carriage_returns":
        strip_carriage_returns(folder)
    elif conversion == "gguf_to_safetensors":
        # Imported here: transformers takes seconds, and most assets do without.
        from assay.sources.gguf_import import gguf_to_safetensors

        print(f"fetch {name}: turning GGUF into safetensors", file=sys.stderr)
        gguf_to_safetensors(folder)


def main() -> None:
    """Fetch the asset named on the command line."""
    started = time.perf_counter()
    params = load_params("fetch", FetchParams)
    if len(sys.argv) != 2 or sys.argv[1] not in params.assets:
        raise InputError(f"usage: python -m stages.fetch <asset>, where <asset> is one of {sorted(params.assets)}")
    name = sys.argv[1]
    asset = params.assets[name]
    with output_folder(asset.path) as folder:
        download_bytes = put_source(name, asset, params, folder)
        convert(name, asset.convert, folder)
        files, size_bytes = folder_size(folder)
        if not files:
            raise InputError(f"{asset.source}: there is no file in it; correct `fetch.assets.{name}.source`")
        if size_bytes > params.max_unpacked_mib * MIB:
            raise InputError(
                f"{asset.source}: holds {size_bytes / MIB:.1f} MiB, more than `fetch.max_unpacked_mib` = "
                f"{params.max_unpacked_mib}; raise that if it is what you want"
            )
    sizes = {"files": files, "unpacked_mib": size_bytes / MIB, "download_mib": download_bytes / MIB}
    write_metrics(f"metrics/fetch/{name}.json", sizes, "files", "unpacked_mib")
    write_json(f"metrics/cost/fetch/{name}.json", {"fetch_seconds": time.perf_counter() - started})


if __name__ == "__main__":
    run_stage(main)
