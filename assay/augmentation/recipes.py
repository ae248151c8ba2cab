"""The recipes of `augment.recipes`: ways to alter a text. `apply` builds what they stand for."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from assay.core.params import Params

NoiseKind = Literal["swap", "delete", "insert", "keyboard", "ocr", "case"]
EdaOperation = Literal["replace", "insert", "swap", "delete"]


class Recipe(Params):
    """What every recipe has: the share of rows that get a copy."""

    share_of_rows: float = Field(ge=0, le=1)


class WordRecipe(Recipe):
    """A recipe that alters single words, a share of those of a row, at least one."""

    share_of_words: float = Field(gt=0, le=1)


class Synonym(WordRecipe):
    """WordNet synonyms."""

    name: Literal["synonym"]


class CharacterNoise(WordRecipe):
    """Typing errors (`swap`, `delete`, `insert`, `keyboard`), reading errors of scanners (`ocr`), another `case`."""

    name: Literal["character_noise"]
    kinds: list[NoiseKind] = Field(min_length=1)


class Eda(WordRecipe):
    """Easy data augmentation (Wei & Zou 2019)."""

    name: Literal["eda"]
    operations: list[EdaOperation] = Field(min_length=1)


class WholeText(Recipe):
    """A contraction in its long form, or two words contracted."""

    name: Literal["contraction"]


AnyRecipe = Annotated[Synonym | CharacterNoise | Eda | WholeText, Field(discriminator="name")]


def _named_once(recipes: list[Any]) -> list[Any]:
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise ValueError("a recipe is named twice")
    return recipes


Recipes = Annotated[list[AnyRecipe], AfterValidator(_named_once)]
"""Recipes, each once."""
