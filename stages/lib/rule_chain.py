"""Apply cleaning rules one after the other, until they find nothing more to do, and keep a record of every change.

One rule can make work for an earlier one: an entity that is decoded can hide an e-mail address in full width, and a
zero-width space that is taken out can complete a tag. So the chain runs again on the rows that it changed, until they
stay as they are. What comes out is therefore a fixed point of the chain: cleaning it again changes nothing. A row that
has not settled after `MAX_PASSES` is given back as such, and never passed on half cleaned.
"""

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import polars as pl

from stages.lib.artifacts import REMOVED_SCHEMA
from stages.lib.gate import Rule

MAX_PASSES = 10


@dataclass(frozen=True)
class ScopedRule:
    """A rule and where it applies.

    Attributes:
        name: what the records call it.
        rule: from a text column to a text column.
        sources: the sources whose rows it sees; None for all.
    """

    name: str
    rule: Rule
    sources: frozenset[str] | None


@dataclass(frozen=True)
class Settled:
    """Texts after the chain.

    Attributes:
        texts: cleaned, in the order of the rows that were given; one that did not settle is as its last pass left it.
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


def apply_rules(records: pl.DataFrame, rules: Sequence[ScopedRule], settled: int = 0) -> Settled:
    """Apply rules to `text` until no row changes.

    Args:
        records: `id`, `source`, `text`.
        rules: in the order in which they run.
        settled: the texts are at rest already under so many of the first rules, which the first pass leaves out.
    """
    texts = records["text"]
    changed = [pl.DataFrame(schema=REMOVED_SCHEMA)]
    rows = pl.Series(range(0), dtype=pl.UInt32)
    for number in range(MAX_PASSES):
        part = records.select("id", "source") if number == 0 else records.select("id", "source")[rows]
        before = texts if number == 0 else texts.gather(rows)
        after = _one_pass(part, before, rules if number else rules[settled:], changed)
        moved = after.ne_missing(before).arg_true()
        if number == 0:
            texts, rows = after, moved
        else:
            texts = texts.clone().scatter(rows, after)
            rows = rows.gather(moved)
        if not len(rows):
            break
    return Settled(texts, pl.concat(changed), rows)


def _one_pass(
    part: pl.DataFrame, texts: pl.Series, rules: Sequence[ScopedRule], changed: list[pl.DataFrame]
) -> pl.Series:
    """Texts after each rule has run once; what changed is appended to `changed`."""
    for rule in rules:
        after = _applied(rule, part["source"], texts)
        rows = after.ne_missing(texts).arg_true()
        if len(rows):
            lines = {
                "id": part["id"].gather(rows),
                "rule": pl.repeat(rule.name, len(rows), dtype=pl.String, eager=True),
                "before": texts.gather(rows),
                "after": after.gather(rows),
            }
            changed.append(pl.DataFrame(lines, schema=REMOVED_SCHEMA))
        texts = after
    return texts


def _applied(rule: ScopedRule, sources: pl.Series, texts: pl.Series) -> pl.Series:
    if rule.sources is None:
        return _evaluated(rule.rule, texts)
    rows = sources.is_in(_as_list(rule.sources)).arg_true()
    if len(rows) == len(texts):
        return _evaluated(rule.rule, texts)
    return texts.clone().scatter(rows, _evaluated(rule.rule, texts.gather(rows))) if len(rows) else texts


def _evaluated(rule: Rule, texts: pl.Series) -> pl.Series:
    return pl.DataFrame({"text": texts}).select(rule(pl.col("text"))).to_series()


def _as_list(names: Collection[str]) -> list[str]:
    return sorted(names)
