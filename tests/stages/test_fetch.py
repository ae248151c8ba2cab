import base64
import functools
import hashlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.sources import package_index
from assay.sources.package_index import PipSettings, parse_pip_config
from stages import fetch
from tests.assay.sources.test_archives import tar_bytes, zip_bytes
from tests.own_process import run_main, run_python

FILES = {
    "pkg-1.0/data/a.txt": b"alpha\r\n",
    "pkg-1.0/data/sub/b.txt": b"beta\r\n",
    "pkg-1.0/setup.py": b"raise SystemExit",
}
CONTENT = {"a.txt": b"alpha\r\n", "sub/b.txt": b"beta\r\n"}


SDIST = tar_bytes(FILES)
SHA256 = hashlib.sha256(SDIST).hexdigest()
OTHER = "0" * 64
EVIL = tar_bytes({"../../evil.txt": b"evil", **FILES})
BOMB = tar_bytes({"pkg-1.0/data/zeros": bytes(3 << 20)})
FOLDER: dict[str, Any] = {"source": "mine", "sha256": None, "unpack": None}
KEY = "planted-0123456789"
LOCAL = {"pkg-1.0.tar.gz": SDIST}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository in which no index is configured but one that nobody answers at."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(package_index, "DOWNLOAD_ATTEMPTS", 1)
    return tmp_path


def write_params(max_unpacked_mib: int = 1, **changed: Any) -> None:
    asset: dict[str, Any] = {
        "source": "pkg-1.0.tar.gz",
        "sha256": SHA256,
        "unpack": ["pkg-1.0/data"],
        "convert": None,
        "path": "data/raw/asset",
        "licence": "MIT",
        "cite": "Somebody (2020).",
    }
    asset.update(changed)
    section = {"max_unpacked_mib": max_unpacked_mib, "timeout_seconds": 5, "assets": {"asset": asset}}
    Path("params.yaml").write_text(yaml.safe_dump({"fetch": section}))


def run(*arguments: str, **changed: Any) -> None:
    write_params(**changed)
    run_main(fetch, *(arguments or ("asset",)))


def fails(*arguments: str, **changed: Any) -> str:
    with pytest.raises(InputError) as caught:
        run(*arguments, **changed)
    assert not Path("data/raw/asset").exists()
    assert not Path("data/raw/.asset.partial").exists()
    assert not Path("metrics").exists()
    return str(caught.value)


def content(folder: str = "data/raw/asset") -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def server(workplace: Path) -> Iterator[str]:
    """Serves the folder `served` over HTTP."""
    root = workplace / "served"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name that the base class has)
            (workplace / "authorization").write_text(self.headers.get("Authorization", "none"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def publish(files: dict[str, bytes], with_hashes: bool = True) -> None:
    """Lay out a simple package index (PEP 503) with one package."""
    folder = Path("served/simple/pkg")
    folder.mkdir(parents=True)
    lines = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        fragment = f"#sha256={hashlib.sha256(data).hexdigest()}" if with_hashes else ""
        lines.append(f'<a href="{name}{fragment}">{name}</a>')
    (folder / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(lines) + "</body></html>")


def test_a_local_archive() -> None:
    Path("pkg-1.0.tar.gz").write_bytes(SDIST)
    run()
    assert content() == CONTENT
    metrics = read_json("metrics/fetch/asset.json")
    assert list(metrics) == ["run_id", "files", "unpacked_mib", "download_mib"]
    assert list(read_json("metrics/cost/fetch/asset.json")) == ["fetch_seconds"]
    assert metrics["files"] == 2
    assert metrics["download_mib"] == pytest.approx(len(SDIST) / 2**20, abs=1e-6)


def put(files: dict[str, bytes]) -> None:
    """Write files; a name that ends in a slash is a folder."""
    for name, data in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            Path(name).mkdir()
        else:
            Path(name).write_bytes(data)


@pytest.mark.parametrize(
    ("files", "changed", "expected"),
    [
        # A local file is kept as it is, and needs no hash; a folder is copied.
        ({"rows.csv": b"id\r\n"}, FOLDER | {"source": "rows.csv"}, {"rows.csv": b"id\r\n"}),
        ({"mine/sub/x.txt": b"x"}, FOLDER, {"sub/x.txt": b"x"}),
        (LOCAL, {"convert": "strip_carriage_returns"}, {"a.txt": b"alpha\n", "sub/b.txt": b"beta\n"}),
        # A new run leaves nothing of the old.
        ({"data/raw/asset/stale.txt": b"", "pkg-1.0.tar.gz": SDIST}, {}, CONTENT),
    ],
)
def test_what_a_local_source_gives(
    files: dict[str, bytes], changed: dict[str, Any], expected: dict[str, bytes]
) -> None:
    put(files)
    run(**changed)
    assert content() == expected


@pytest.mark.parametrize(
    ("files", "changed", "expected"),
    [
        ({"mine/": b""}, {"source": "mine"}, "must be null"),
        ({"mine/": b""}, FOLDER, "there is no file in it"),
        ({"mine/big": bytes(2 << 20)}, FOLDER, "holds 2.0 MiB, more than `fetch.max_unpacked_mib` = 1"),
        (LOCAL, {"sha256": OTHER}, f"pkg-1.0.tar.gz: expected SHA-256 {OTHER}, seen {SHA256}"),
        (LOCAL, {"sha256": OTHER}, "fetch.assets.asset.sha256"),
        ({}, {}, "pkg-1.0.tar.gz: no such file; correct `fetch.assets.asset.source`"),
        (LOCAL, {"unpack": ["pkg-1.0/x"]}, "no file at 'pkg-1.0/x' in the archive; 'pkg-1.0' holds data, setup.py"),
        ({"pkg-1.0.tar.gz": EVIL}, {"sha256": hashlib.sha256(EVIL).hexdigest()}, "points outside"),
        ({"pkg-1.0.tar.gz": BOMB}, {"sha256": hashlib.sha256(BOMB).hexdigest()}, "unpacks to more than 1 MiB"),
    ],
)
def test_what_is_wrong_with_a_local_source(
    files: dict[str, bytes], changed: dict[str, Any], expected: str, workplace: Path
) -> None:
    put(files)
    message = fails(**changed)
    assert message.startswith(expected) if expected.startswith("pkg-1.0.tar.gz: ") else expected in message
    assert not list(workplace.parent.rglob("evil.txt"))


def test_a_download_is_kept_for_the_next_run_unless_it_is_damaged(server: str) -> None:
    served, kept = Path("served/pkg 1.tar.gz"), Path(".cache/fetch", SHA256, "pkg 1.tar.gz")
    source = f"{server}/pkg%201.tar.gz"
    served.write_bytes(SDIST)
    run(source=source)
    assert content() == CONTENT
    assert kept.read_bytes() == SDIST
    served.unlink()
    run(source=source)
    assert content() == CONTENT
    served.write_bytes(SDIST)
    kept.write_bytes(b"damaged")
    run(source=source)
    assert kept.read_bytes() == SDIST


def test_a_wrong_hash_of_an_address_is_not_kept(server: str) -> None:
    Path("served/pkg.tar.gz").write_bytes(SDIST)
    assert f"expected SHA-256 {OTHER}, seen {SHA256}" in fails(source=f"{server}/pkg.tar.gz", sha256=OTHER)
    assert not list(Path(".cache/fetch").glob("*"))


@pytest.mark.parametrize("source", ["{server}/absent.tar.gz", "http://127.0.0.1:9/pkg.tar.gz"])
def test_an_address_that_is_not_there_or_cannot_be_reached(source: str, server: str) -> None:
    address = source.format(server=server)
    message = fails(source=address)
    assert message.startswith(f"{address}: cannot be downloaded")
    assert "give its path as `source`" in message


def test_a_password_in_netrc_is_sent(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("netrc").write_text(f"machine 127.0.0.1 login me password {KEY}")
    monkeypatch.setenv("NETRC", "netrc")
    Path("served/pkg.tar.gz").write_bytes(SDIST)
    run(source=f"{server}/pkg.tar.gz")
    assert Path("authorization").read_text() == "Basic " + base64.b64encode(f"me:{KEY}".encode()).decode()


def test_a_token_that_cannot_be_sent_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{KEY} {KEY}")
    message = fails(source=f"hf:owner/name@{'a' * 40}", sha256=None, unpack=None)
    assert message == "HF_TOKEN, or the file of it: has white space or other than ASCII in it; correct it"


def test_another_protocol() -> None:
    import fsspec

    with fsspec.open("memory://bucket/pkg.tar.gz", "wb") as file:
        file.write(SDIST)
    run(source="memory://bucket/pkg.tar.gz")
    assert content() == CONTENT


def test_a_protocol_whose_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "s3fs" in fails(source="s3://bucket/pkg.tar.gz")


@pytest.mark.parametrize("with_hashes", [True, False])
@pytest.mark.parametrize("wanted", ["pkg-1.0.tar.gz", "pkg-1.0-cp27-cp27m-win32.whl"])
def test_a_release_on_the_configured_index(
    server: str, monkeypatch: pytest.MonkeyPatch, wanted: str, with_hashes: bool
) -> None:
    # A wheel for this platform would be preferred for installing; the hash decides. The source archive is not run.
    others = {"pkg-1.0-py3-none-any.whl": b"other", "pkg-1.1.tar.gz": b"x"}
    release = {"pkg-1.0.tar.gz": SDIST, "pkg-1.0-cp27-cp27m-win32.whl": zip_bytes(FILES)}
    publish(others | release, with_hashes)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server}/simple/")
    sha256 = hashlib.sha256(release[wanted]).hexdigest()
    run(source="pypi:pkg==1.0", sha256=sha256)
    assert content() == CONTENT
    assert [path.name for path in Path(".cache/fetch", sha256).iterdir()] == [wanted]


def test_a_release_in_a_folder_of_links_without_a_network(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("links").mkdir()
    Path("links/pkg-1.0.tar.gz").write_bytes(SDIST)
    monkeypatch.setenv("PIP_FIND_LINKS", str(workplace / "links"))
    run(source="pypi:pkg==1.0")
    assert content() == CONTENT


@pytest.mark.parametrize(
    ("version", "sha256", "expected"),
    [
        ("1.0", OTHER, f"pypi:pkg==1.0: expected SHA-256 {OTHER}, seen pkg-1.0.tar.gz {SHA256}"),
        ("2.0", SHA256, "pypi:pkg==2.0: no such release on"),
    ],
    ids=["other bytes", "no such version"],
)
def test_a_release_that_the_index_does_not_have(
    version: str, sha256: str, expected: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"pkg-1.0.tar.gz": SDIST})
    monkeypatch.setenv("PIP_INDEX_URL", f"{server}/simple/")
    assert fails(source=f"pypi:pkg=={version}", sha256=sha256).startswith(expected)


def test_a_release_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple/")
    message = fails(source="pypi:pkg==1.0")
    assert message.startswith("pypi:pkg==1.0: no package index can be reached (http://")
    assert "secret" not in message
    assert "give its path as `source`" in message


def test_a_hub_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    revision = "0123456789abcdef0123456789abcdef01234567"

    def download(repository: str, *, repo_type: str, revision: str, local_dir: Path, etag_timeout: float) -> None:
        (local_dir / ".cache").mkdir()
        (local_dir / ".cache" / "x").touch()
        (local_dir / "asked.json").write_text(json.dumps([repository, repo_type, revision]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for prefix, kind in (("", "model"), ("datasets/", "dataset")):
        run(source=f"hf:{prefix}owner/name-1.5@{revision}", sha256=None, unpack=None)
        assert list(content()) == ["asked.json"]
        assert read_json("data/raw/asset/asked.json") == ["owner/name-1.5", kind, revision]


def test_a_hub_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = f"hf:owner/name@{'a' * 40}"
    message = fails(source=source, sha256=None, unpack=None)
    assert message.startswith(f"{source}: cannot be downloaded (no connection)")
    assert "give its path as `source`" in message


@pytest.mark.parametrize("arguments", [("other",), ("asset", "asset")])
def test_wrong_arguments(arguments: tuple[str, ...]) -> None:
    assert "where <asset> is one of ['asset']" in fails(*arguments)


def test_pip_config_as_pip_prints_it() -> None:
    listing = "\n".join(
        [
            ":env:.find-links='/links ./more'",
            "global.cert='/certificates.pem'",
            "global.extra-index-url='\\nhttps://a/simple\\nhttps://b/simple'",
            "global.index-url='https://mirror/simple'",
            "download.index-url='https://other/simple'",
            "install.index-url='https://not-for-us/simple'",
            "global.trusted-host='mirror'",
        ]
    )
    assert parse_pip_config(listing, "https://default/simple") == PipSettings(
        index_urls=["https://other/simple", "https://a/simple", "https://b/simple"],
        find_links=["/links", "./more"],
        trusted_hosts=["mirror"],
        certificate="/certificates.pem",
    )


def test_pip_config_of_nothing_and_without_an_index() -> None:
    assert parse_pip_config("", "https://default/simple") == PipSettings(["https://default/simple"], [], [], None)
    assert parse_pip_config("global.no-index='true'", "https://default/simple").index_urls == []


def test_an_error_is_one_line_and_status_1() -> None:
    write_params()
    done = run_python("-m", "stages.fetch", "asset", status=1)
    assert done.stderr == "error: pkg-1.0.tar.gz: no such file; correct `fetch.assets.asset.source`\n"
