"""What stands where personal data stood: `<EMAIL>`, or numbered, so that one can tell who is who, `<EMAIL_2>`."""

import re
from collections.abc import Callable

PLACEHOLDER = r"<[A-Z][A-Z_]*(?:_[0-9]{1,9})?>"


def placeholders(text: str, kind: str, numbered: bool) -> Callable[[str], str]:
    """From a value to its placeholder in one text; the same value gets the same number, if they are numbered.

    Numbers go on after the last one that `text` has already.
    """
    if not numbered:
        return lambda value: f"<{kind}>"
    last = max((int(number) for number in re.findall(f"<{kind}_([0-9]{{1,9}})>", text)), default=0)
    numbers: dict[str, int] = {}
    return lambda value: f"<{kind}_{numbers.setdefault(value, last + len(numbers) + 1)}>"
