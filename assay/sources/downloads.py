"""Files and folders from where a source names them: a path, an address, a package index or a model hub."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from assay.core.errors import InputError, require_no_credentials
from assay.core.outputs import file_sha256, output_folder
from assay.core.processes import hold, lock_of
from assay.core.progress import progress
from assay.sources import package_index
from assay.sources.package_index import HELP_OFFLINE, MIB, describe_wrong_hash

CACHE = Path(".cache/fetch")
HUB_SOURCE = re.compile(r"hf:(datasets/)?([\w.-]+/[\w.-]+)@([0-9a-f]{40})")


def is_local(source: str) -> bool:
    """Whether a source is a path on this machine."""
    return not source.startswith(("pypi:", "hf:")) and "://" not in source


def read_address(url: str, what: str, timeout_seconds: int) -> Iterator[bytes]:
    """The bytes at an address that fsspec can open, with progress. Raises `InputError`: it cannot be read."""
    # Imported here: aiohttp takes long, and most assets do not need it.
    import aiohttp
    import fsspec

    options = {}
    require_no_credentials(url)
    if urlsplit(url).scheme in ("http", "https"):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}, "block_size": 0}
    try:
        with fsspec.open(url, "rb", **options) as file:
            total = -(-file.size // MIB) if isinstance(file.size, int) else None
            yield from progress(iter(lambda: file.read(MIB), b""), what, total, "MiB")
    except ImportError as error:
        raise InputError(f"{url}: {error}; install that package, or give a local path as `source`") from None
    except (OSError, aiohttp.ClientError, ValueError) as error:
        raise InputError(f"{url}: cannot be downloaded ({error or type(error).__name__}); {HELP_OFFLINE}") from None


def obtain(asset: str, source: str, sha256: str | None, timeout_seconds: int) -> Path:
    """A verified file, local or in the cache. Raises `InputError`: it cannot be had, or has another hash."""
    if is_local(source):
        if not Path(source).is_file():
            raise InputError(f"{source}: no such file; correct `fetch.assets.{asset}.source`")
        seen = file_sha256(Path(source))
        if sha256 is not None and seen != sha256:
            raise InputError(describe_wrong_hash(asset, source, sha256, seen))
        return Path(source)

    assert sha256 is not None
    cached = CACHE / sha256
    # Two assets may be parts of one file, and be fetched side by side.
    with hold(lock_of(cached / "download"), "fetch", waits=True):
        for file in cached.glob("*"):
            if file_sha256(file) == sha256:
                return file
        with output_folder(cached) as folder:
            if source.startswith("pypi:"):
                package_index.download_release(asset, source, sha256, folder, timeout_seconds)
            else:
                name = unquote(PurePosixPath(urlsplit(source).path).name) or asset
                seen = package_index.save(read_address(source, f"fetch {asset}", timeout_seconds), folder / name)
                if seen != sha256:
                    raise InputError(describe_wrong_hash(asset, source, sha256, seen))
        return next(cached.glob("*"))


def download_snapshot(source: str, folder: Path, timeout_seconds: int) -> None:
    """Download a hub repository at one commit into `folder`. Raises `InputError`: it cannot be had."""
    match = HUB_SOURCE.fullmatch(source)
    assert match
    datasets, repository, revision = match.groups()
    # Imported here: the default assets do not need it.
    from huggingface_hub import get_token, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # What cannot be sent would stand in the error.
    if not re.fullmatch("[!-~]*", get_token() or ""):
        raise InputError("HF_TOKEN, or the file of it: has white space or other than ASCII in it; correct it")
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
