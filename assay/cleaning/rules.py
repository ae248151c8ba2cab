"""The cleaning rules and their params: what section `clean` turns on, in its order, for all stages that clean texts."""

from collections.abc import Sequence
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, Field, field_validator, model_validator

from assay.cleaning import noise_rules, normalisation_rules
from assay.cleaning.column_checks import CheckParams
from assay.cleaning.rule_chain import ScopedRule, public_functions, with_settings
from assay.core.errors import InputError
from assay.core.params import Params, Pattern
from assay.duplicates.near_duplicates import NearDuplicateParams
from assay.personal_data import pii_rules

RULES = public_functions(noise_rules, normalisation_rules, pii_rules)
"""Every rule by name. To add one is to write it in one of the three modules, and to name it in params.yaml."""
DECODERS = frozenset(["html_to_text"])
"""Rules that run once on a text, since what they give looks like what they take."""
NEEDS = {
    **{f"redact_{kind}": "digits" for kind in ("iban", "card", "national_number", "ip", "phone")},
    **dict.fromkeys(
        ("repair_mojibake", "repair_unicode", "fold_compatibility", "straighten_quotes_and_dashes"), "wide"
    ),
    **dict.fromkeys(("remove_quoted_replies", "remove_signatures"), "lines"),
}
"""Rules that leave a text without this property (`rule_chain.PROPERTIES`) alone."""
Policy = Literal["drop", "keep", "review", "pool", "mode", "unknown"]


class Constant(Params):
    """The policy that fills a missing value in with one of your own."""

    constant: Annotated[str, Field(min_length=1)]


def _matches_something(pattern: str) -> str:
    """The pattern, unless it matches where there is nothing, as `a*` does."""
    if pl.select(pl.lit("").str.contains(pattern)).item():
        raise ValueError("it matches the empty text; write `+` for `*`, or name what is to go")
    return pattern


class RuleSettings(Params):
    """Block `clean.rule_settings`: the keyword arguments of rules, by name."""

    numbered: bool
    patterns: list[Annotated[Pattern, AfterValidator(_matches_something)]]


class TokenParams(Params):
    """Block `clean.max_tokens`."""

    tokenizer: Annotated[str, Field(min_length=1)]
    tokens: Annotated[int, Field(ge=1)]


class LanguageParams(Params):
    """Block `clean.languages`."""

    keep: Annotated[list[Annotated[str, Field(pattern="^[a-z]{2,3}$")]], Field(min_length=1)]
    min_probability: Annotated[float, Field(gt=0, le=1)]
    min_characters: Annotated[int, Field(ge=1)]


class TextCleaning(Params):
    """The keys of section `clean` that are about one text: they travel with a model, for inference."""

    checks: dict[str, CheckParams]
    rules: dict[str, bool | list[str]]
    rule_settings: RuleSettings
    min_characters: Annotated[int, Field(ge=1)]
    max_characters: Annotated[int, Field(ge=1)]
    max_tokens: TokenParams
    languages: LanguageParams | None

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: dict[str, bool | list[str]]) -> dict[str, bool | list[str]]:
        if unknown := [rule for rule in rules if rule not in RULES]:
            raise ValueError(f"no rule {unknown[0]!r}; there are {list(RULES)}")
        return rules

    @model_validator(mode="after")
    def _lengths_in_order(self) -> "TextCleaning":
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} is more than max_characters {self.max_characters}")
        return self


class CleanParams(TextCleaning):
    """Section `clean`."""

    missing: dict[str, Policy | Constant]
    near_duplicates: NearDuplicateParams | None
    on_conflict: Literal["keep", "majority"]
    planted_rows_per_kind: Annotated[int, Field(ge=10, le=10_000)]

    @model_validator(mode="after")
    def _labels_are_there(self) -> "CleanParams":
        if self.missing.get("label", "keep") == "keep":
            raise ValueError("`missing.label` must say what becomes of rows without a label, and not keep them")
        if others := [column for column, policy in self.missing.items() if policy == "pool" and column != "label"]:
            raise ValueError(f"`missing.{others[0]}` = 'pool': rows can wait for a label alone")
        return self


def chosen_rules(params: TextCleaning, sources: Sequence[str]) -> list[ScopedRule]:
    """The rules that are on, in the order of the params.

    Raises `InputError`: a rule is for a source that is not there.
    """
    settings = params.rule_settings.model_dump()
    chosen = []
    for name, where in params.rules.items():
        if not where:
            continue
        if where is not True and (unknown := [source for source in where if source not in sources]):
            raise InputError(
                f"params.yaml: `clean.rules.{name}` = {where!r}: no source {unknown[0]!r}; there are {list(sources)}"
            )
        scope = None if where is True else frozenset(where)
        chosen.append(ScopedRule(name, with_settings(RULES[name], settings), scope, name in DECODERS, NEEDS.get(name)))
    return chosen
