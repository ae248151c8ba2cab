"""A classifier on the mean of an encoder's token states, which transformers has for a few architectures alone."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPooledForSequenceClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """An encoder, the mean of its token states under the attention mask, dropout, and a linear layer.

    Sentence encoders are trained for this mean (Reimers & Gurevych 2019, section 3), while the state of the first
    token, which `BertForSequenceClassification` goes by, is one that their training never looked at.
    """

    config_class = PreTrainedConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules: list[str] = []  # noqa: RUF012  # as transformers declares it

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        if hasattr(self.model, "pooler"):
            self.model.pooler = None
        rate = getattr(config, "classifier_dropout", None)
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.0) if rate is None else rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        past_key_values: Any = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Logits, and the cross-entropy where there are labels.

        Args:
            input_ids: shape `(b, t)`.
            attention_mask: shape `(b, t)`, or `(b, p + t)` with a prefix of `p` keys and values.
            inputs_embeds: in the place of `input_ids`, shape `(b, t, h)`.
            labels: shape `(b,)`.
            past_key_values: keys and values of a prefix.
            others: what the encoder takes besides.
        """
        others.pop("return_dict", None)
        states = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            **({} if past_key_values is None else {"past_key_values": past_key_values}),
            **others,
        ).last_hidden_state
        if attention_mask is None:
            mean = states.mean(dim=1)
        else:
            mask = attention_mask[:, -states.shape[1] :, None].to(states.dtype)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        logits = self.classifier(self.dropout(mean))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
