"""Unpacking of archives that nobody vouches for: zip (also `.whl`) and tar, plain or packed by gzip, bzip2 or xz.

The kind is told from the first bytes, not from the name. Only regular files are written, with plain permissions and
no time stamps, so that the same archive gives the same folder everywhere.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from assay.core.errors import InputError

CHUNK_BYTES = 1 << 20
NAMES_IN_AN_ERROR = 20
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
DECOMPRESSORS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""By the first bytes of what they read."""
CORRUPT = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, lzma.LZMAError, NotImplementedError)
"""What the standard library raises for an archive that is cut off, damaged or packed in a way it does not know."""


Member = tuple[str, str, IO[bytes] | None]
"""One entry of an archive: its normalised path, what it is, and how to read it (None: not a regular file)."""


@dataclass
class Allowance:
    """How many bytes may still be unpacked; counts what is really read, not what headers claim."""

    limit_bytes: int
    left_bytes: int
    shown: str


@dataclass
class CountedReader:
    """A stream that takes each byte read off an allowance."""

    stream: IO[bytes]
    allowance: Allowance

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes. Raises `InputError`: they are more than may still be unpacked."""
        data = self.stream.read(min(self.allowance.left_bytes + 1, size))
        self.allowance.left_bytes -= len(data)
        if self.allowance.left_bytes < 0:
            raise InputError(
                f"{self.allowance.shown}: unpacks to more than {self.allowance.limit_bytes / 2**20:.0f} MiB; if that "
                "is what it should hold, raise `fetch.max_unpacked_mib`"
            )
        return data


def folder_size(folder: Path) -> tuple[int, int]:
    """Number of files below a folder, and their size in bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def unpack(archive: Path, members: Sequence[str], target: Path, max_bytes: int) -> None:
    """Unpack one folder or file of an archive, or of an archive inside it, into the folder `target`.

    `members` has one path for each level of nesting. All but the last name an archive inside the one before; the last
    names the folder whose content is kept, or the one file that is, or is `.` for all of the archive.

    Raises `InputError`: the archive is damaged or of an unknown kind, has a member that points outside, lacks the
    wanted member, wants a link or device file to be made, or unpacks to more than `max_bytes`.
    """
    shown = str(archive)
    allowance = Allowance(max_bytes, max_bytes, shown)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        current = archive
        for level, inner in enumerate(members[:-1]):
            folder = Path(scratch) / str(level)
            folder.mkdir()
            _unpack_level(current, shown, inner, folder, allowance)
            current = folder / PurePosixPath(inner).name
            if not current.is_file():
                raise InputError(f"{shown}: {inner!r} is a folder; in `unpack` only the last path may name one")
            shown = f"{shown}: {inner}"
        _unpack_level(current, shown, members[-1], target, allowance)


def strip_carriage_returns(folder: Path) -> None:
    """Take every carriage return out of every file below `folder`."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b"\r", b""))


def _unpack_level(archive: Path, shown: str, wanted: str, target: Path, allowance: Allowance) -> None:
    """Unpack the folder or file `wanted` of one archive."""
    wanted = _safe_name(wanted, "`unpack`")
    names: list[str] = []
    found = False
    try:
        with closing(_members(archive, shown, allowance)) as entries:
            for name, kind, content in entries:
                names.append(name)
                inside = _inside(name, wanted)
                if inside is None or kind == "folder":
                    continue
                if content is None:
                    raise InputError(f"{shown}: {name!r} is a {kind}; only regular files are unpacked")
                found = True
                _write(content, target / inside, shown, name)
    except CORRUPT as error:
        raise InputError(f"{shown}: damaged, or not a zip or tar archive ({error}); fetch it again") from None
    except OSError as error:
        # The decompressors raise OSError without a number for damaged data; one with a number is the disk's.
        if error.errno is not None:
            raise
        raise InputError(f"{shown}: damaged ({error}); fetch it again") from None
    if not found:
        raise InputError(f"{shown}: no file at {wanted!r} in the archive; {_what_is_there(names, wanted)}")


def _members(archive: Path, shown: str, allowance: Allowance) -> Generator[Member, None, None]:
    """The entries of an archive, in its order; each must be read before the next is taken."""
    with archive.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic.startswith(ZIP_MAGIC):
            with zipfile.ZipFile(raw) as opened_zip:
                yield from _zip_members(opened_zip, shown, allowance)
            return
        # Read as a stream, so that the bytes counted are all that are ever decompressed.
        opener = next((opener for start, opener in DECOMPRESSORS.items() if magic.startswith(start)), None)
        counted = cast(IO[bytes], CountedReader(opener(raw) if opener else raw, allowance))
        with tarfile.open(fileobj=counted, mode="r|") as opened_tar:
            yield from _tar_members(opened_tar, shown)


def _zip_members(opened: zipfile.ZipFile, shown: str, allowance: Allowance) -> Iterator[Member]:
    for info in opened.infolist():
        name = _safe_name(info.filename, shown)
        mode = info.external_attr >> 16
        if info.is_dir():
            yield name, "folder", None
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield name, "link" if stat.S_ISLNK(mode) else "device file", None
        elif info.flag_bits & 1:
            yield name, "encrypted file", None
        else:
            with opened.open(info) as content:
                yield name, "file", cast(IO[bytes], CountedReader(content, allowance))


def _tar_members(opened: tarfile.TarFile, shown: str) -> Iterator[Member]:
    for info in opened:
        name = _safe_name(info.name, shown)
        if info.isdir():
            yield name, "folder", None
        elif info.issym() or info.islnk():
            yield name, "link", None
        elif info.issparse():
            # Its holes are bytes that no stream ever delivers, so they could not be counted.
            yield name, "sparse file", None
        elif info.isreg():
            yield name, "file", opened.extractfile(info)
        else:
            yield name, "device file", None


def _safe_name(name: str, shown: str) -> str:
    """The member's path without `.` parts. Raises `InputError`: it may lead outside the folder, on any system."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name[1:2] == ":":
        raise InputError(f"{shown}: the path {name!r} points outside the folder; nothing of it is used")
    return str(path)


def _inside(name: str, wanted: str) -> str | None:
    """Where below the target a member lands: None if it is not wanted, its own name if it is the wanted file."""
    path = PurePosixPath(name)
    if name == wanted:
        return path.name
    return str(path.relative_to(wanted)) if path.is_relative_to(wanted) else None


def _write(content: IO[bytes], path: Path, shown: str, name: str) -> None:
    """Copy one member to `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, CHUNK_BYTES)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{shown}: {name!r} occurs twice; it cannot be told which to keep") from None


def _what_is_there(names: list[str], wanted: str) -> str:
    """The content of the deepest folder on the way to `wanted` that exists."""
    folder, paths = PurePosixPath(wanted), [PurePosixPath(name) for name in names if name != "."]
    if not paths:
        return "it is empty"
    while not any(folder in path.parents for path in paths):
        folder = folder.parent
    found = sorted({path.parts[len(folder.parts)] for path in paths if folder in path.parents})
    more = f" and {len(found) - NAMES_IN_AN_ERROR} more" if len(found) > NAMES_IN_AN_ERROR else ""
    return f"{str(folder)!r} holds {', '.join(found[:NAMES_IN_AN_ERROR])}{more}"
