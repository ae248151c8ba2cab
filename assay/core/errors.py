"""The error that a person can mend, and how a stage ends when it meets one."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something in the data, the params or the machine that the user has to change.

    The message names the file, the row or column, the value seen and the fix.
    """


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
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror or error}; free space or mend access, then run again")
