"""Apply cleaning rules one after the other, until they find nothing more to do, and keep a record of every change.

One rule can make work for an earlier one, so the chain runs again on the rows that it changed, until they stay as they
are: cleaning what comes out again changes nothing. A row that has not settled after `MAX_PASSES` is given back as such,
and never passed on half cleaned. A rule that decodes sees every row once, in the first pass: what it gives, such as the
text `<br>`, looks like what it takes. Later a rule looks at the rows that have changed since it last saw them.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import polars as pl

from assay.core.removed_rows import REMOVED_SCHEMA
from assay.text.prefilter import Rule, evaluated, is_wide, where

MAX_PASSES = 10
PROPERTIES: dict[str, Rule] = {
    "digits": lambda text: where(text, is_wide, lambda wide: wide.str.replace(r"\p{Nd}", "0")).str.contains("[0-9]"),
    "lines": lambda text: text.str.contains("\n", literal=True),
    "wide": is_wide,
}
"""What a rule may need of a text (digits are of any script), looked for once for all rules."""


@dataclass(frozen=True)
class ScopedRule:
    """A rule, and the sources whose rows it sees; None for all.

    `once` says that it decodes: it sees no text that has been through it.
    `needs` names one of `PROPERTIES`: a text without it is left alone; None is always safe.
    """

    name: str
    rule: Rule
    sources: frozenset[str] | None
    once: bool = False
    needs: str | None = None


@dataclass(frozen=True)
class Settled:
    """Texts after the chain.

    Attributes:
        texts: in the order given; one that did not settle is as its last pass left it.
        changed: `REMOVED_SCHEMA`, a line for each row, pass and rule that changed it, in the order of time.
        unsettled: positions of the rows that still changed in the last pass.
    """

    texts: pl.Series
    changed: pl.DataFrame
    unsettled: pl.Series


def public_functions(*modules: ModuleType) -> dict[str, Any]:
    """The public functions that modules define themselves, by name, in the order of the files: each is a rule."""
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


def with_settings(function: Any, settings: Mapping[str, Any]) -> Rule:
    """A rule with its keyword-only arguments filled from settings of the same names."""
    wanted = inspect.signature(function).parameters.values()
    given = {one.name: settings[one.name] for one in wanted if one.kind is inspect.Parameter.KEYWORD_ONLY}
    return partial(function, **given) if given else function


def apply_rules(records: pl.DataFrame, rules: Sequence[ScopedRule]) -> Settled:
    """Apply rules to `text` of `id`, `source`, `text` until no row changes."""
    texts = records["text"].rechunk()  # Polars calls a function of rows once a chunk
    part = records.select("id", "source", changed=pl.lit(-1))
    lines = [pl.DataFrame(schema=REMOVED_SCHEMA)]
    rows = pl.Series(range(len(texts)), dtype=pl.UInt32)
    for number in range(MAX_PASSES):
        before = texts.gather(rows)
        after, part = _one_pass(part, before, rules, number, lines)
        moved = _moved(before, after)
        rows, part = rows.gather(moved), part[moved]
        if not len(rows):
            break
        texts = texts.clone().scatter(rows, after.gather(moved))
    return Settled(texts, pl.concat(lines), rows)


def _one_pass(
    part: pl.DataFrame, texts: pl.Series, rules: Sequence[ScopedRule], number: int, lines: list[pl.DataFrame]
) -> tuple[pl.Series, pl.DataFrame]:
    """Texts after each rule has run once, and `part` as the next pass needs it; `lines` get what changed.

    `part` has `id` and `source` of the rows, and when a rule last `changed` the text: time counts the rules that have
    run, over all passes.
    """
    changed = part["changed"]
    has = {name: evaluated(texts, PROPERTIES[name]) for name in PROPERTIES if any(one.needs == name for one in rules)}
    for time, rule in enumerate(rules, number * len(rules)):
        if rule.once and number:
            continue
        rows = _rows_to_see(rule, part["source"], changed, time - len(rules), has)
        before = texts if rows is None else texts.gather(rows)
        after = evaluated(before, rule.rule) if len(before) else before
        moved = _moved(before, after)
        if not len(moved):
            continue
        at = moved if rows is None else rows.gather(moved)
        before, after_moved = before.gather(moved), after.gather(moved)
        ids, names = part["id"].gather(at), pl.repeat(rule.name, len(at), dtype=pl.String, eager=True)
        lines.append(
            pl.DataFrame({"id": ids, "rule": names, "before": before, "after": after_moved}, schema=REMOVED_SCHEMA)
        )
        texts = after if rows is None else texts.clone().scatter(at, after_moved)
        changed = changed.scatter(at, time)
        for name, rows_with in has.items():
            has[name] = rows_with.scatter(at, evaluated(after_moved, PROPERTIES[name]))
    return texts, part.with_columns(changed=changed)


def _moved(before: pl.Series, after: pl.Series) -> pl.Series:
    return evaluated(after, lambda text: text.ne_missing(before).arg_true())


def _rows_to_see(
    rule: ScopedRule, sources: pl.Series, last_change: pl.Series, since: int, has: Mapping[str, pl.Series]
) -> pl.Series | None:
    """Positions of the rows that a rule is for, and that have changed since it ran; None for all."""
    wanted = None if rule.sources is None else sources.is_in(sorted(rule.sources))
    if rule.needs:
        wanted = has[rule.needs] if wanted is None else wanted & has[rule.needs]
    if since >= 0:
        has_changed = last_change >= since
        wanted = has_changed if wanted is None else wanted & has_changed
    return None if wanted is None or wanted.all() else wanted.arg_true()
