"""Forms of ids and labels: `1`, `1.0` and `001`, or `Ü`, `ü` and `U` with a combining mark, are one value written anew.

Forms of one value are the same for Unicode's compatibility caseless matching (The Unicode Standard, D146) without
characters that cannot be seen, with runs of white space as one space and none at the ends; dashes and quotes of any
shape are `-`, `'` and `"`; whole numbers without `+`, leading zeros and `.0`. Numbers with other decimals are what they
are: section 1.10 is not section 1.1.

Where labels differ in form alone, or ids and names of raters, the params say what they are: an `error`; one value
(`join`); or all meant (`distinct`), but for white space around them.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import polars as pl
import polars.selectors as cs

from assay.core.errors import InputError
from assay.core.params import Params

FormRule = Literal["error", "join", "distinct"]
INVISIBLE = r"[[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}]--\s]"
WHOLE_NUMBER = r"^([\w.-]*[a-z][\w.-]*:)?(?:\+|(-))?0*([0-9]+)(?:\.0*)?([#~].*)?$"
"""Also after the name of a source and before a mark, as in `tweets:007#unanswerable`."""


class Forms(Params):
    """Block `forms`."""

    labels: FormRule
    ids: FormRule


def fold_forms(values: pl.Series) -> pl.Series:
    """What all forms of a value have in common, for each of the values."""
    # Lower, upper and lower case, as ẞ becomes ß, SS and ss; what comes out may be decomposed further.
    text = values.str.normalize("NFKD").str.replace_all(INVISIBLE, "").str.to_lowercase().str.to_uppercase()
    text = text.str.to_lowercase().str.normalize("NFKD").str.replace_all(INVISIBLE, "")
    text = text.str.replace_all(r"[\p{Pd}\u2212]", "-").str.replace_all("[\u2018-\u201b`\u02bc]", "'")
    text = text.str.replace_all("[\u201c-\u201f]", '"')
    return text.str.replace_all(r"\s+", " ").str.strip_chars().str.replace(WHOLE_NUMBER, "${1}${2}${3}${4}")


def show_form(text: str) -> str:
    """A form in quotes, with escapes where it has what cannot be seen or told apart."""
    plain = pl.Series([text]).str.replace_all(INVISIBLE, "").str.normalize("NFC").item()
    return repr(text) if text == plain and text.isprintable() else ascii(text)


def find_other_forms(values: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Of `values` that are not `known`, but other forms of one that is: a sentence that names both."""
    there = sorted(set(known))
    wanted = sorted(set(values) - set(there))
    by_fold = dict(zip(fold_forms(pl.Series(there, dtype=pl.String)), there, strict=True)) if wanted else {}
    return {
        one: f"there is no {show_form(one)}, but {show_form(by_fold[fold])}, which differs in form alone: write it so"
        for one, fold in zip(wanted, fold_forms(pl.Series(wanted, dtype=pl.String)), strict=True)
        if fold in by_fold
    }


def join_forms(
    tables: Sequence[pl.DataFrame], columns: Sequence[str], rule: FormRule, key: str
) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """The tables with one form of each value of `columns`, where they have them, and what was rewritten.

    Of that, a table has `form`, `kept` and how often (`times`). Kept is what stands in an earlier table, then what
    stands most often, then what stands first.

    Raises `InputError`: by the rule `error` of the params key `key`; names forms, how often and where (`origin`).
    """
    named = cs.by_name(*columns, require_all=False)
    long = [one.select("origin", named).unpivot(index="origin", value_name="form") for one in tables]
    places = pl.concat(one.with_columns(table=pl.lit(at)) for at, one in enumerate(long)).drop_nulls("form")
    forms = places.group_by("form", maintain_order=True).agg(pl.col("origin", "table").first(), times=pl.len())
    forms = forms.with_columns(pl.col("times").cast(pl.Int64), folded=fold_forms(forms["form"]))
    clashes = forms.filter(pl.len().over("folded") > 1, rule != "distinct")
    clashes = clashes.sort("table", -pl.col("times"), maintain_order=True)
    if rule == "error" and clashes.height:
        groups = clashes.partition_by("folded", maintain_order=True)
        shown = "; ".join(
            " and ".join(f"{show_form(form)} ({times} times, first in {at})" for form, at, _, times, _ in one.rows())
            for one in groups[:5]
        )
        raise InputError(
            f"{len(groups)} value(s) of {columns[0]} are written in more than one way: {shown}. Write each in one way, "
            f"or set `{key}` to `join` (they are one value) or `distinct` (each is a value of its own)"
        )
    joined = clashes.with_columns(kept=pl.col("form").first().over("folded").str.strip_chars())
    joined = joined.filter(pl.col("form") != pl.col("kept")).select("form", "kept", "times")
    return [one.with_columns(named.replace(joined["form"], joined["kept"]).str.strip_chars()) for one in tables], joined
