import types
from functools import partial

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cleaning.rule_chain import MAX_PASSES, ScopedRule, apply_rules, public_functions, with_settings
from assay.core.removed_rows import REMOVED_SCHEMA


def lower(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase()


def drop_ab(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all("ab", "", literal=True)


def swing(text: pl.Expr) -> pl.Expr:
    return pl.when(text == "tick").then(pl.lit("tock")).when(text == "tock").then(pl.lit("tick")).otherwise(text)


def replace(text: pl.Expr, *, old: str, new: str) -> pl.Expr:
    return text.str.replace_all(old, new, literal=True)


def rules(*functions: object, sources: frozenset[str] | None = None) -> list[ScopedRule]:
    return [ScopedRule(function.__name__, function, sources) for function in functions]  # type: ignore[attr-defined,arg-type]


def records(*texts: str | None, source: str = "s") -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [f"r{number}" for number in range(len(texts))], "source": [source] * len(texts), "text": texts},
        schema=dict.fromkeys(("id", "source", "text"), pl.String),
    )


def test_every_change_is_recorded_in_the_order_in_which_it_happened() -> None:
    settled = apply_rules(records("AB x", "fine", None), rules(lower, drop_ab))
    assert settled.texts.to_list() == [" x", "fine", None]
    assert settled.changed.schema == REMOVED_SCHEMA
    assert settled.changed.rows() == [("r0", "lower", "AB x", "ab x"), ("r0", "drop_ab", "ab x", " x")]
    assert settled.unsettled.to_list() == []


def test_an_earlier_rule_runs_again_on_what_a_later_one_made() -> None:
    # drop_ab has to run once more for each layer, and after `lower` has shown it the first.
    settled = apply_rules(records("aaABbb", "quiet"), rules(drop_ab, lower))
    assert settled.texts.to_list() == ["", "quiet"]
    assert settled.changed["after"].to_list() == ["aaabbb", "aabb", "ab", ""]


def test_a_rule_that_decodes_sees_each_row_once() -> None:
    halve = partial(replace, old="aa", new="a")
    chain = [ScopedRule("halve", halve, None, once=True), *rules(drop_ab)]
    settled = apply_rules(records("aaaab", "aab"), chain)
    assert settled.texts.to_list() == ["a", ""]


def test_a_rule_looks_again_at_rows_that_have_changed_since_and_at_no_others() -> None:
    seen: list[list[str]] = []

    def looked_at(texts: pl.Series) -> pl.Series:
        seen.append(texts.to_list())
        return texts

    def noted(text: pl.Expr) -> pl.Expr:
        return text.map_batches(looked_at, return_dtype=pl.String)

    def trim(text: pl.Expr) -> pl.Expr:
        return text.str.strip_chars()

    apply_rules(records("ab", "x", " y"), [*rules(drop_ab, noted), *rules(trim)])
    # What drop_ab changed, it saw in the first pass; what trim changed, it did not.
    assert seen == [["", "x", " y"], ["y"]]


def test_a_row_that_never_settles_is_named() -> None:
    settled = apply_rules(records("still", "tick", "tock"), rules(swing))
    assert settled.unsettled.to_list() == [1, 2]
    assert settled.texts[0] == "still"
    assert settled.changed.height == 2 * MAX_PASSES


def test_a_rule_sees_the_rows_of_its_sources_alone() -> None:
    table = pl.concat([records("A", source="a"), records("B", source="b"), records("C", source="a")])
    settled = apply_rules(table, rules(lower, sources=frozenset({"a"})))
    assert settled.texts.to_list() == ["a", "B", "c"]
    assert apply_rules(table, rules(lower, sources=frozenset({"z"}))).texts.to_list() == ["A", "B", "C"]


def test_no_rows_and_no_rules() -> None:
    assert apply_rules(records(), rules(lower)).texts.len() == 0
    assert apply_rules(records("A"), []).texts.to_list() == ["A"]


def test_the_public_functions_of_a_module_are_its_rules() -> None:
    module = types.ModuleType("own_rules")
    source = "import re\nfrom os.path import join\ndef one(text): ...\ndef _two(text): ...\nTHREE = 3"
    exec(source, module.__dict__)  # noqa: S102  # our own source, as if it were a file
    assert list(public_functions(module)) == ["one"]


def test_settings_go_to_the_arguments_of_their_names() -> None:
    rule = with_settings(replace, {"old": "a", "new": "b", "other": 1})
    assert pl.select(rule(pl.lit("aha"))).item() == "bhb"
    assert with_settings(lower, {"old": "a"}) is lower


@given(st.lists(st.none() | st.text("aAbB ", max_size=12), max_size=8))
@settings(deadline=None)
def test_what_has_settled_stays_as_it_is(texts: list[str | None]) -> None:
    once = apply_rules(records(*texts), rules(drop_ab, lower))
    assert len(once.texts) == len(texts)
    again = apply_rules(records(*once.texts.to_list()), rules(drop_ab, lower))
    assert again.texts.to_list() == once.texts.to_list()
    assert again.changed.height == 0
