"""Section `instruct_data` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from assay.core.params import Params
from assay.instruction_data.context import ContextParams
from assay.instruction_data.formats import ColumnsLayout, Layout, SquadLayout
from assay.instruction_data.label_task import LabelTaskParams
from assay.sources.provenance import Provenance
from assay.sources.table_files import Reading


class Source(Provenance, Reading):
    """One file of questions and answers."""

    file: Annotated[str, Field(min_length=1)]
    layout: Layout
    system_message: Annotated[str, Field(min_length=1)] | None
    passages: Literal["search", "given", "none"]

    @model_validator(mode="after")
    def _context_is_used(self) -> "Source":
        is_given = isinstance(self.layout, ColumnsLayout) and self.layout.context is not None
        if (is_given or isinstance(self.layout, SquadLayout)) != (self.passages == "given"):
            raise ValueError("`passages: given`, and layout squad or a column under `layout.context` go together")
        return self


class InstructDataParams(Params):
    """Section `instruct_data`."""

    path: Annotated[str, Field(min_length=1)]
    max_reject_fraction: float = Field(ge=0, le=1)
    sources: Annotated[list[Source], Field(min_length=1)]
    min_question_cosine: float | None = Field(gt=0, le=1)
    context: ContextParams | None
    label_task: LabelTaskParams | None
    max_length_tokens: int = Field(ge=8, le=1048576)

    @model_validator(mode="after")
    def _consistent(self) -> "InstructDataParams":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"the sources are named {names}; each needs a name of its own")
        if self.context is None and (given := [one.name for one in self.sources if one.passages == "given"]):
            raise ValueError(f"source {given[0]!r} has `passages: given`, and `context` is null: say how to show them")
        return self

    @property
    def needs_encoder(self) -> bool:
        """Whether anything is decided by embeddings."""
        return self.min_question_cosine is not None or self.context is not None
