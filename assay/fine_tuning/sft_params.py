"""The params of an approach of `sft`: one class for each `method`, as of a classifier's in `params.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from assay.fine_tuning.params import Ia3Adapter, LearntPrefix, LearntPrompt, LoraAdapter, QloraAdapter, WholeModel
from assay.fine_tuning.trainer_params import TrainerParams


class Training(TrainerParams):
    """What every approach needs."""

    max_length_tokens: int = Field(ge=16, le=131072)
    packing: bool
    num_evaluations: int = Field(ge=1)
    validation_rows: int = Field(ge=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_fraction: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _goes_together(self) -> Training:
        if self.num_evaluations > self.max_steps:
            raise ValueError(f"`num_evaluations` {self.num_evaluations} is more than `max_steps` has room for")
        if self.packing and isinstance(self, LearntPrompt | LearntPrefix):
            before = "what is learnt stands before a row, and only its first chat would see it"
            raise ValueError(f"`packing` must be false: {before}")
        return self


class Lora(Training, LoraAdapter):
    """Low-rank adapters."""


class Qlora(Training, QloraAdapter):
    """Low-rank adapters on a base in 4 bits."""


class PromptTuning(Training, LearntPrompt):
    """A soft prompt."""


class PrefixTuning(Training, LearntPrefix):
    """A learnt prefix in every layer."""


class Ia3(Training, Ia3Adapter):
    """Learnt scales."""


class Full(Training, WholeModel):
    """Every parameter."""


Approach = Annotated[Lora | Qlora | PromptTuning | PrefixTuning | Ia3 | Full, Field(discriminator="method")]
