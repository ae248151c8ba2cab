"""Prompts from templates of the params, with places such as `{question}` to be filled."""

import re
from collections.abc import Callable, Mapping, Sequence

_PLACE = re.compile(r"\{(\w+)\}")


def places_exactly(*names: str) -> Callable[[str], str]:
    """A validator of templates that have each of these places once, and no other."""

    def validated(template: str) -> str:
        found = _PLACE.findall(template)
        if sorted(found) != sorted(names):
            wanted = ", ".join(f"{{{name}}}" for name in names)
            raise ValueError(f"must have {wanted} once each and no other place, and has {found or 'none'}")
        return template

    return validated


def fill_places(template: str, values: Mapping[str, str]) -> str:
    """A template with its places filled; braces in the values stay as they are."""
    return _PLACE.sub(lambda place: values[place.group(1)], template)


def name_labels(labels: Sequence[str]) -> str:
    """Labels as a prompt names them: `a, b or c`."""
    return " or ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def place_passages_in(template: str, question: str, passages: Sequence[str]) -> str:
    """A template with a question in `{question}` and numbered passages, one a paragraph, in `{passages}`.

    Without passages it is the bare question.
    """
    if not passages:
        return question
    numbered = "\n\n".join(f"[{number}] {passage}" for number, passage in enumerate(passages, start=1))
    return fill_places(template, {"question": question, "passages": numbered})
