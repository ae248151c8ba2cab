"""Ids of rows that are made from other rows: the source row's id, a mark, and what was done.

`tweets:42~synonym~2` is the second augmented example of `tweets:42` by the recipe `synonym`; `faq:7#unanswerable` is
the question `faq:7` with context that does not answer it.
"""

UNANSWERABLE = "#unanswerable"
"""Mark of a question whose context does not answer it."""
MARK = "~"


def variant(row_id: str, kind: str, *details: str | int) -> str:
    """The id of a row of `kind` that is made from the row `row_id`."""
    return MARK.join([row_id, kind, *map(str, details)])


def unanswerable(row_id: str) -> str:
    """The id of the question `row_id` with context that does not answer it."""
    return row_id + UNANSWERABLE


def answerable(row_id: str) -> str:
    """The id of the question that `unanswerable` was given, or an id without its mark as it is."""
    return row_id.removesuffix(UNANSWERABLE)
