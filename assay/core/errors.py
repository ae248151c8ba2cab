"""The error that a person can mend, and how a stage ends when it meets one."""

import os
import re
import sys
import traceback
from collections.abc import Callable

IN_ADDRESS = re.compile(
    r"(?i)(https?://(?=[^\s/]*@)|://(?=[^\s/:]*:[^\s/]*@))[^\s/]+(?=@)"
    r"|([?&][\w-]*(?:token|secret|password|signature|credential|api[_-]?key|sig)=)[^\s&#'\"]+",
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
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror or error}; free space or mend access, then run again")
    except Exception:
        if (hidden := hide_secrets(said := traceback.format_exc())) == said:
            raise
        sys.exit(hidden)
