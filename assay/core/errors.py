"""The error that a person can mend, and how a stage ends when it meets one."""

import errno
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

SYSTEM_NUMBER = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (Polars, safetensors) hide the number of a system error in the text of their own."""
FIXES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space there, or raise the quota")
FIXES |= dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files, as by `ulimit -n 4096`")
NO_MEMORY = re.compile(r"can't allocate memory|out of memory")
"""What PyTorch says, which has an own error for that on a device alone."""


class InputError(ValueError):
    """Something in the data, the params or the machine that the user has to change.

    The message names the file, the row or column, the value seen and the fix.
    """


def run_stage(main: Callable[[], None]) -> None:
    """Run `main`; end with exit status 1 and one readable message for what a user can mend.

    Anything else is a defect of the program and keeps its traceback.
    """
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except FileNotFoundError as error:
        # Polars names the file at the end of its message alone.
        place = error.filename or str(error).rpartition(": ")[2]
        sys.exit(f"error: {place}: no such file or folder; run the stages before this one (`dvc repro`)")
    except Exception as error:
        if (shown := _system_failure(error)) is None:
            raise
        sys.exit(f"error: {shown}, then run again")


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
