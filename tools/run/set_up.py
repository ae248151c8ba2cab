"""Install what `requirements.lock` pins, by uv, every file verified by its SHA-256: the main part of `make setup`.

Runs in a `.venv` that holds pip alone, so it needs nothing but the standard library:

1. pip, the one that Python brings, installs uv, the version of the lock, verified by its hash.
2. uv resolves PyTorch at the version of the lock, and nothing else: its build for CPU and that for CUDA have other
   files and other packages below them, so the lock has no hash of it. Hashes are those that the index states.
3. uv makes `.venv` equal to the lock and that: what neither names is removed, and pip becomes that of the lock.

No other resolution happens: textattack asks for flair, which we leave out. uv reads none of pip's settings; those that
say where packages come from are passed on, so that a machine configured for pip alone works.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from assay.sources.pip_settings import is_on, parse_pip_options

LOCK = Path("requirements.lock")
WORK = Path(".venv")
DOWNLOAD_MIB = {"CPU": 850, "CUDA": 3300}
"""Sum of the files that Linux on x86-64 gets with Python 3.11, 2026-11; the packages without PyTorch are 670."""
FAILED = """error: set-up stopped at what is said above. `make setup` goes on from there: what was downloaded is kept.
If it says "hash mismatch", the package index serves another file than the one that requirements.lock names. Do not
install it: ask who runs the index, or compare with another one (PIP_INDEX_URL=…). `make lock` pins anew."""


def blocks(lock: str) -> dict[str, str]:
    """Package name → its lines of a lock, pins and hashes; several pins where they depend on the Python version."""
    found: dict[str, str] = {}
    for block in re.findall(r"^[A-Za-z0-9][^\n]*\n(?:[ \t]+[^\n]*\n)*", lock, flags=re.MULTILINE):
        name = block.split("==")[0]
        found[name] = found.get(name, "") + block
    return found


def uv_variables(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` and, where it does not say otherwise, pip's options under the names that uv reads."""
    # As in pip, a place that is not there is passed over.
    links = [place for place in pip.get("find-links", "").split() if "://" in place or Path(place).exists()]
    extra = " ".join(pip.get("extra-index-url", "").split())
    values = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": extra,
        # As in pip: the newest of all indices, not the first index that has the name. Hashes guard the pins.
        "UV_INDEX_STRATEGY": extra and "unsafe-best-match",
        "UV_FIND_LINKS": ",".join(links),
        "UV_NO_INDEX": is_on(pip.get("no-index", "")) and "1",
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "SSL_CERT_FILE": pip.get("cert"),
        "ALL_PROXY": pip.get("proxy"),
    }
    return {name: value for name, value in values.items() if value} | dict(environment)


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a module of this Python; where it fails, end with what to do."""
    if subprocess.run([sys.executable, "-m", *arguments], env=environment, check=False).returncode:
        sys.exit(FAILED)


def main() -> None:
    """Install."""
    pip_config = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(pip_config, capture_output=True, text=True, check=True)
    variables = uv_variables(parse_pip_options(listing.stdout, "install"), os.environ)
    locked = blocks(LOCK.read_text(encoding="utf-8"))
    names = ("uv.txt", "torch.in", "torch.txt", "everything.txt")
    uv_pin, torch_in, torch_out, everything = (WORK / name for name in names)
    uv_pin.write_text(locked["uv"], encoding="utf-8")
    run("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", str(uv_pin))

    torch_in.write_text(locked["torch"], encoding="utf-8")
    torch_out.unlink(missing_ok=True)  # uv would keep to the build that stands in it
    compiling = ("compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes", "--constraint", str(LOCK))
    target = ("--python", sys.executable)
    run("uv", "pip", *compiling, *target, "--output-file", str(torch_out), str(torch_in), environment=variables)
    torch = blocks(torch_out.read_text(encoding="utf-8"))
    chosen = torch | locked | {"torch": torch["torch"]}
    everything.write_text("".join(chosen.values()), encoding="utf-8")

    build = "CUDA" if any(name.startswith("nvidia-") for name in torch) else "CPU"
    print(
        f"Installing up to {len(chosen)} packages into {WORK}, with the {build} build of PyTorch: "
        f"{DOWNLOAD_MIB[build]:,} MiB to download at most, since uv keeps a cache. One to five minutes; once.",
        flush=True,
    )
    run("uv", "pip", "sync", "--require-hashes", *target, str(everything), environment=variables)


if __name__ == "__main__":
    main()
