"""Params of everything that one of TRL's trainers trains."""

from pydantic import Field, model_validator

from assay.core.params import Params


class TrainerParams(Params):
    """How long and how fast to train; a section of `params.yaml` adds what its method needs.

    Attributes:
        max_steps: of the optimizer.
        batch_size: rows of one step, over all processes.
        gradient_accumulation_steps: equal parts of a step, one after the other; several processes share them out, and
            where that does not come out even, each puts its own share through in so many.
        learning_rate: the highest; it rises linearly over the warm-up, and falls along a cosine to 0.
        warmup_fraction: of the steps.
        max_grad_norm: longer gradients are scaled down to it.
        gradient_checkpointing: activations are computed again in the backward pass, which takes time and saves memory.
    """

    max_steps: int = Field(ge=1, le=10_000_000)
    batch_size: int = Field(ge=1, le=65536)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    learning_rate: float = Field(gt=0, le=1)
    warmup_fraction: float = Field(ge=0, le=1)
    max_grad_norm: float = Field(gt=0)
    gradient_checkpointing: bool

    @model_validator(mode="after")
    def _parts_are_of_equally_many_rows(self) -> "TrainerParams":
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"`batch_size` = {self.batch_size} cannot be divided into {self.gradient_accumulation_steps} parts "
                "(`gradient_accumulation_steps`) of equally many rows; make it a multiple of that"
            )
        return self
