from typing import Any

import pytest
from transformers import BertConfig, DebertaV2Config, GPT2Config, LlamaConfig, RobertaConfig, T5Config

from assay.compute.model_limits import require_positions
from assay.core.errors import InputError
from assay.core.params import Params


class Length(Params):
    max_length_tokens: int
    num_virtual_tokens: int


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (BertConfig(max_position_embeddings=512), 512),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (GPT2Config(n_positions=512), 512),
        (LlamaConfig(max_position_embeddings=512), 512),
        (DebertaV2Config(max_position_embeddings=512, position_biased_input=False), None),
        (T5Config(), None),
    ],
)
def test_a_length_that_a_model_has_no_positions_for_is_an_error(config: Any, positions: int | None) -> None:
    require_positions(config, Length(max_length_tokens=502, num_virtual_tokens=10), "sft.lora")
    too_long = Length(max_length_tokens=503, num_virtual_tokens=10)
    if positions is None:
        require_positions(config, too_long, "sft.lora")
    else:
        error = rf"`sft\.lora\.max_length_tokens` = 503 takes 513 positions, and .* has {positions} "
        with pytest.raises(InputError, match=error):
            require_positions(config, too_long, "sft.lora")
