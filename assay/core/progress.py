"""Progress of long work: a bar on a terminal, one line every few seconds where there is none."""

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0
GOES_ON = "training goes on, and a run that is killed begins earlier; free space on its disk, or give access to it"
"""What follows where a checkpoint cannot be written, and what to do."""
T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int | None, unit: str) -> Iterator[T]:
    """Yield `items` unchanged and report on standard error how far the work `what`, such as `embed`, is.

    Of a `total` that is not known it says what is done, and not what is left.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=unit)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            rate = done / (now - started)
            left = f", {(total - done) / rate:.0f} s left" if rate and total is not None else ""
            print(f"{what}: {done}/{total or '?'} {unit} ({rate:.1f}/s{left})", file=sys.stderr, flush=True)
        yield item


@cache
def warn_once(message: str) -> None:
    """Say on standard error what went wrong and does not stop the work; a message that was there is not repeated."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Leave the terminal to the stage: no bars, reports or warnings of the model libraries, only their errors."""
    # Imported here: stages without a model use this module too, and transformers takes seconds.
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # It warns at import of an optional kernel that no stage needs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # They warn of each other's old names.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|trl)\.")


def library_warnings_off() -> AbstractContextManager[object]:
    """Leave the terminal to the stage: trainers warn of much that is as it is on purpose."""
    return warnings.catch_warnings(action="ignore")
