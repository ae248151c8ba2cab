"""The recipes of `augment.recipes`: ways to alter a text. `apply` builds what they stand for."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from assay.core.params import Params

Share = Annotated[float, Field(ge=0, le=1)]
NoiseKind = Literal["swap", "delete", "insert", "keyboard", "ocr", "case"]
EdaOperation = Literal["replace", "insert", "swap", "delete"]


class Recipe(Params):
    """What every recipe has: the share of rows that get a copy."""

    share_of_rows: Share


class WordRecipe(Recipe):
    """A recipe that alters single words, a share of those of a row, at least one."""

    share_of_words: Annotated[float, Field(gt=0, le=1)]


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


class TextAttackClass(WordRecipe):
    """Any transformation of TextAttack's, or of one's own, by the path of its class."""

    name: str = Field(pattern="^[a-z][a-z0-9_]*$")
    transformation: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    arguments: dict[str, Any]

    @model_validator(mode="after")
    def _has_its_own_name(self) -> "TextAttackClass":
        if self.name in BUILT_IN:
            raise ValueError(f"`{self.name}` is the name of a built-in recipe; give this one another name")
        return self


BUILT_IN = ("synonym", "character_noise", "eda", "contraction")


def _kind(block: Any) -> str:
    """Which class a block is of: by its name, unless it names a transformation."""
    known = block if isinstance(block, dict) else vars(block)
    return "transformation" if "transformation" in known else str(known.get("name"))


AnyRecipe = Annotated[
    Annotated[Synonym, Tag("synonym")]
    | Annotated[CharacterNoise, Tag("character_noise")]
    | Annotated[Eda, Tag("eda")]
    | Annotated[WholeText, Tag("contraction")]
    | Annotated[TextAttackClass, Tag("transformation")],
    Discriminator(
        _kind,
        custom_error_type="recipe",
        custom_error_message=f"no such recipe; there are {', '.join(BUILT_IN)}, or any class by `transformation`",
    ),
]


def _named_once(recipes: list[Any]) -> list[Any]:
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise ValueError("a recipe is named twice; give one of them another share, or a class another name")
    return recipes


Recipes = Annotated[list[AnyRecipe], AfterValidator(_named_once)]
"""Recipes, each with a name of its own."""
