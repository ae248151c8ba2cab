import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from assay.core.errors import InputError
from assay.sources.archives import folder_size, strip_carriage_returns, unpack

MIB = 1 << 20
FILES = {"top/a.txt": b"alpha", "top/sub/b.txt": b"beta", "other.txt": b"else"}


def tar_bytes(files: dict[str, bytes], mode: str = "w:gz", extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def unpacked(tmp_path: Path, content: bytes, members: list[str], max_bytes: int = MIB) -> dict[str, bytes]:
    archive, target = tmp_path / "archive.bin", tmp_path / "target"
    archive.write_bytes(content)
    target.mkdir()
    unpack(archive, members, target, max_bytes)
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert folder_size(target) == (len(found), sum(map(len, found.values())))
    return found


def error(tmp_path: Path, content: bytes, members: list[str], max_bytes: int = MIB) -> str:
    with pytest.raises(InputError) as caught:
        unpacked(tmp_path, content, members, max_bytes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.bin", "target"]
    return str(caught.value)


def packed(kind: str) -> bytes:
    return zip_bytes(FILES) if kind == "zip" else tar_bytes(FILES, f"w:{kind}")


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_a_folder_lands_in_the_target(tmp_path: Path, kind: str) -> None:
    assert unpacked(tmp_path, packed(kind), ["top"]) == {"a.txt": b"alpha", "sub/b.txt": b"beta"}


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_file_or_all_of_it_lands_in_the_target(tmp_path: Path, kind: str) -> None:
    for name, members, expected in (("file", ["top/sub/b.txt"], {"b.txt": b"beta"}), ("all", ["."], FILES)):
        (tmp_path / name).mkdir()
        assert unpacked(tmp_path / name, packed(kind), members) == expected


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        # A name that starts alike is not inside, and `./` before names does not count.
        (zip_bytes({"top/a": b"1", "topmost/b": b"2"}), "top"),
        (tar_bytes({"./top/a": b"1"}), "top/"),
    ],
    ids=["zip", "tar"],
)
def test_names_are_compared_part_by_part(tmp_path: Path, content: bytes, wanted: str) -> None:
    assert unpacked(tmp_path, content, [wanted]) == {"a": b"1"}


@pytest.mark.parametrize(
    ("content", "members", "expected"),
    [
        (zip_bytes(FILES), ["top", "a.txt"], "only the last path may name one"),
        (zip_bytes({}), ["top"], "it is empty"),
        (b"<html>404</html>" * 100, ["top"], "not a zip or tar archive"),
        (tar_bytes({"top/a": b"1"}, "w:", extra=(tarfile.TarInfo("top/a"),)), ["top"], "occurs twice"),
        # A missing member lists what is there; of an inner archive, both are named.
        (tar_bytes(FILES), ["top/sup/b.txt"], "no file at 'top/sup/b.txt' in the archive; 'top' holds a.txt, sub"),
        (
            zip_bytes({"in.tgz": tar_bytes(FILES)}),
            ["in.tgz", "absent"],
            "archive.bin: in.tgz: no file at 'absent' in the archive; '.' holds other.txt, top",
        ),
    ],
    ids=["two files to one path", "empty", "a page", "twice", "missing", "missing in the inner"],
)
def test_what_cannot_be_unpacked(tmp_path: Path, content: bytes, members: list[str], expected: str) -> None:
    assert expected in error(tmp_path, content, members)


def test_an_archive_in_the_archive(tmp_path: Path) -> None:
    outer = zip_bytes({"x/inner.tar.gz": tar_bytes(FILES), "x/readme": b"-"})
    assert unpacked(tmp_path, outer, ["x/inner.tar.gz", "top/sub"]) == {"b.txt": b"beta"}


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "top/../../out.txt", "..\\out.txt", "C:\\out.txt"])
@pytest.mark.parametrize("pack", [zip_bytes, tar_bytes])
def test_members_that_point_outside_are_refused(tmp_path: Path, name: str, pack: object) -> None:
    assert callable(pack)
    message = error(tmp_path, pack({name: b"bad", "top/a.txt": b"good"}), ["top"])
    assert "points outside" in message
    assert not (tmp_path / "out.txt").exists()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("info", "what"),
    [
        (special("top/link", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (special("top/link", tarfile.SYMTYPE, "a.txt"), "link"),
        (special("top/link", tarfile.LNKTYPE, "../../x"), "link"),
        (special("top/device", tarfile.CHRTYPE), "device file"),
        (special("top/pipe", tarfile.FIFOTYPE), "device file"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, info: tarfile.TarInfo, what: str) -> None:
    assert f"is a {what}; only regular files" in error(tmp_path, tar_bytes(FILES, extra=(info,)), ["top"])


def test_a_link_that_is_not_wanted_does_not_matter(tmp_path: Path) -> None:
    content = tar_bytes(FILES, extra=(special("elsewhere", tarfile.SYMTYPE, "/etc"),))
    assert unpacked(tmp_path, content, ["top/sub"]) == {"b.txt": b"beta"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "is a link" in error(tmp_path, buffer.getvalue(), ["top"])


@pytest.mark.parametrize("kind", ["zip", "gz", "xz"])
def test_more_than_may_be_unpacked(tmp_path: Path, kind: str) -> None:
    big = {"top/zeros": bytes(3 * MIB)}
    content = zip_bytes(big) if kind == "zip" else tar_bytes(big, f"w:{kind}")
    assert len(content) < MIB // 10
    message = error(tmp_path, content, ["top"], max_bytes=2 * MIB)
    assert "unpacks to more than 2 MiB" in message
    assert "fetch.max_unpacked_mib" in message


def test_a_size_that_lies_does_not_help(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"top/zeros": bytes(3 * MIB)}))
    size = (3 * MIB).to_bytes(4, "little")
    while (at := content.find(size)) >= 0:
        content[at : at + 4] = (10).to_bytes(4, "little")
    # The header says ten bytes, so no more is written, and the checksum then says that it is not the file.
    assert "damaged" in error(tmp_path, bytes(content), ["top"], max_bytes=2 * MIB)


def test_the_limit_holds_over_all_levels(tmp_path: Path) -> None:
    inner = zip_bytes({"a": os.urandom(MIB)})
    assert "unpacks to more than" in error(tmp_path, zip_bytes({"in.zip": inner}), ["in.zip", "."], 3 * MIB // 2)


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_a_damaged_archive(tmp_path: Path, kind: str) -> None:
    big = {"top/noise": os.urandom(MIB // 8)}
    content = zip_bytes(big) if kind == "zip" else tar_bytes(big, f"w:{kind}")
    assert "damaged" in error(tmp_path, content[: len(content) // 2], ["top"])


def test_no_time_stamp_and_no_permission_comes_along(tmp_path: Path) -> None:
    info = tarfile.TarInfo("top/run.sh")
    info.mode, info.mtime = 0o4777, 1
    unpacked(tmp_path, tar_bytes({}, extra=(info,)), ["top"])
    found = (tmp_path / "target" / "run.sh").stat()
    assert stat.S_IMODE(found.st_mode) & 0o7111 == 0
    assert found.st_mtime > 1e9


def test_carriage_returns_go_everywhere_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"one\r\ntwo\r\r\n\x00\xff")
    (tmp_path / "sub" / "b").write_bytes(b"\rx\r")
    (tmp_path / "c").write_bytes(b"plain\n")
    strip_carriage_returns(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n\x00\xff"
    assert (tmp_path / "sub" / "b").read_bytes() == b"x"
    assert (tmp_path / "c").read_bytes() == b"plain\n"
