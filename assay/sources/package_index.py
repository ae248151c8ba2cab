"""Files of releases from the package index that pip is configured to use; nothing of what is downloaded is run."""

import hashlib
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx2
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers import Fetcher, PyPIClient

from assay.core.errors import InputError
from assay.core.progress import progress
from assay.sources.pip_settings import is_on, parse_pip_options

MIB = 1 << 20
DOWNLOAD_ATTEMPTS = 3
PYPI_SOURCE = re.compile(r"pypi:([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)")
HELP_OFFLINE = "without a network, get the file on another machine and give its path as `source`"


@dataclass(frozen=True)
class PipSettings:
    """Where pip is configured to look for packages; `certificate` is a file of trusted authorities."""

    index_urls: list[str]
    find_links: list[str]
    trusted_hosts: list[str]
    certificate: str | None


def parse_pip_config(listing: str, default_index: str) -> PipSettings:
    """Read what `pip config list` prints, lines such as `global.index-url='…'`."""
    settings = parse_pip_options(listing, "download")
    indices = [settings.get("index-url", default_index), *settings.get("extra-index-url", "").split()]
    if is_on(settings.get("no-index", "")):
        indices = []
    return PipSettings(
        index_urls=indices,
        find_links=settings.get("find-links", "").split(),
        trusted_hosts=settings.get("trusted-host", "").split(),
        certificate=settings.get("cert"),
    )


def read_pip_settings() -> PipSettings:
    """The configuration of pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return parse_pip_config(done.stdout, PackageFinder().sources[0]["url"])


def find_release_files(requirement: str, settings: PipSettings, client: PyPIClient) -> tuple[list[Link], list[str]]:
    """Every file of a release on the configured folders and indices, and the sources that could not be reached."""
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


def read_index(client: PyPIClient, link: Link, what: str) -> Iterator[bytes]:
    """The bytes of a file of a package index, with progress. Raises `httpx2.HTTPError`: it cannot be read."""
    with client.get_stream(link.normalized) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        total = -(-int(length) // MIB) if length.isdigit() else None
        # Raw bytes: an archive that is itself packed must not be unpacked on the way.
        yield from progress(response.iter_raw(MIB), what, total, "MiB")


def save(chunks: Iterable[bytes], path: Path) -> str:
    """Write chunks to a file; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def download_release(asset: str, source: str, sha256: str, folder: Path, timeout_seconds: int) -> None:
    """Download the file of a release that has the pinned hash into `folder`. Raises `InputError`: there is none."""
    match = PYPI_SOURCE.fullmatch(source)
    assert match
    name, version = match.groups()
    settings = read_pip_settings()
    verify = ssl.create_default_context(cafile=settings.certificate) if settings.certificate else True
    with PyPIClient(trusted_hosts=settings.trusted_hosts, verify=verify, timeout=timeout_seconds) as client:
        client.auth = MultiDomainBasicAuth(index_urls=settings.index_urls)
        links, failures = find_release_files(f"{name}=={version}", settings, client)
        if not links and failures:
            raise InputError(f"{source}: no package index can be reached ({'; '.join(failures)}); {HELP_OFFLINE}")
        if not links:
            raise InputError(
                f"{source}: no such release on {[Link(url).redacted for url in settings.index_urls]} "
                f"or in {settings.find_links}; correct `fetch.assets.{asset}.source`"
            )
        published = [(link, (link.hash_option or {}).get("sha256", ["unknown"])[0]) for link in links]
        seen = {link.filename: digest for link, digest in published}
        # Those published with the hash first, then those without any.
        for link in [one for wanted in (sha256, "unknown") for one, digest in published if digest == wanted]:
            seen[link.filename] = download_file(client, link, folder / link.filename, f"fetch {asset}", source)
            if seen[link.filename] == sha256:
                return
            (folder / link.filename).unlink()
    listing = ", ".join(f"{file} {digest}" for file, digest in sorted(seen.items()))
    raise InputError(describe_wrong_hash(asset, source, sha256, listing))


def download_file(client: PyPIClient, link: Link, path: Path, what: str, source: str) -> str:
    """Download one file, trying again after a broken connection; its SHA-256. Raises `InputError`: it cannot be had."""
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            return save(read_index(client, link, what), path)
        except httpx2.HTTPError as error:
            if attempt == DOWNLOAD_ATTEMPTS or not isinstance(error, httpx2.TransportError):
                raise InputError(
                    f"{source}: {link.filename} cannot be downloaded ({error or type(error).__name__}); {HELP_OFFLINE}"
                ) from None
            time.sleep(attempt)
    raise AssertionError("unreachable")


def describe_wrong_hash(asset: str, source: str, expected: str, seen: str) -> str:
    """What to tell when nothing has the pinned hash."""
    return (
        f"{source}: expected SHA-256 {expected}, seen {seen}; the file is not the one that was pinned: "
        f"find out why, and only then correct `fetch.assets.{asset}.sha256`"
    )
