"""The error that a person can mend, and how a stage ends when it meets one."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

SYSTEM_NUMBER = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (Polars, safetensors) hide the number of a system error in the text of their own."""
FIXES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space there, or raise the quota")
FIXES |= dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files, as by `ulimit -n 4096`")
NO_MEMORY = re.compile(r"can't allocate memory|out of memory")
"""What PyTorch says, which has an own error for that on a device alone."""

IN_ADDRESS = re.compile(
    r"(?i)(https?://(?=[^\s/]*@)|://(?=[^\s/:]*:[^\s/]*@))[^\s/]+(?=@)"
    r"|([?&][\w-]*(?:token|secret|password|signature|credential|api[_-]?key|sig)=)[^\s&#'\"]+"
)
"""Credentials in an address: before its host, or in its query."""


def hide_secrets(text: str) -> str:
    """A text with `***` for credentials in its addresses, and for tokens and keys that the environment has."""
    hidden = IN_ADDRESS.sub(lambda found: f"{found[1] or found[2]}***", text)
    for name, value in os.environ.items():
        # Shorter ones, such as `false`, are words of other texts.
        if name.endswith(("TOKEN", "SECRET", "PASSWORD", "KEY", "CONNECTION_STRING")) and len(value.strip()) > 7:
            hidden = hidden.replace(value.strip(), "***")
    return hidden


class InputError(ValueError):
    """Something in the data, the params or the machine that the user has to change.

    The message names the file, the row or column, the value seen and the fix; secrets in it are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(hide_secrets(message))


def require_no_credentials(address: str) -> str:
    """An address as it is. Raises `InputError`: it holds a password, token or signature, which git would keep."""
    if IN_ADDRESS.search(address):
        raise InputError(f"{address} holds a secret: leave that to ~/.netrc, HF_TOKEN or the cloud's own settings")
    return address


def run_stage(main: Callable[[], None]) -> None:
    """Run `main`, a stage once at a time; end with exit status 1 and one readable message for what a user can mend.

    Anything else is a defect of the program and keeps its traceback.
    """
    # Imported here: it raises the error above.
    from assay.core.processes import only_run

    try:
        with only_run(main):
            main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except FileNotFoundError as error:
        # Polars names the file at the end of its message alone.
        place = error.filename or str(error).rpartition(": ")[2]
        sys.exit(f"error: {place}: no such file or folder; run the stages before this one (`dvc repro`)")
    except Exception as error:
        if (shown := _system_failure(error)) is not None:
            sys.exit(f"error: {hide_secrets(shown)}, then run again")
        if (hidden := hide_secrets(said := traceback.format_exc())) == said:
            raise
        sys.exit(hidden)


def _system_failure(error: Exception) -> str | None:
    """What the machine had not enough of or did not allow, and what to do; None for a defect of the program."""
    found = SYSTEM_NUMBER.search(str(error))
    code = int(found[1]) if found else error.errno if isinstance(error, OSError) else None
    is_lack = isinstance(error, MemoryError | BrokenExecutor) or code == errno.ENOMEM
    if is_lack or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        # Also where the system killed a worker for it.
        free = "close other programs, or lower `max_rows`, `batch_size`, `max_length_tokens` or `compute.threads`"
        return f"{Path(sys.argv[0]).stem}: out of memory ({' '.join(str(error).split())[:200]}); {free}"
    if code is None:
        return None
    return f"{getattr(error, 'filename', None) or Path.cwd()}: {os.strerror(code)}; {FIXES.get(code, 'mend access')}"
