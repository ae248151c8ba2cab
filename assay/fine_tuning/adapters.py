"""The ways to fine-tune: each turns a freshly loaded model into one whose trainable parameters are the approach's.

The caller seeds PyTorch before it loads the model, since the head of a classifier and the adapters start from random
values. That head is trained with every approach, and saved with it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from assay.core.outputs import write_json
from assay.fine_tuning.quantization import QUANTISATION_FILE, four_bit_settings

if TYPE_CHECKING:
    import peft

    from assay.fine_tuning.params import Ia3Adapter, LearntPrefix, LearntPrompt, LowRankAdapter

Task = Literal["SEQ_CLS", "CAUSAL_LM"]
"""What a model is for, as peft calls it: to classify sequences, or to go on with them."""

PREFIX_SCALE = 0.02
"""Standard deviation of a prefix's first keys and values, that of the weights of a transformer: peft draws them with 1,
and the first steps go into undoing that."""


def head_of(model: PreTrainedModel | peft.PeftModel) -> tuple[str, nn.Module]:
    """Name and module of the classification head: the last child of a `…ForSequenceClassification` model."""
    base = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    *_, head = base.named_children()
    return head


def linear_probe(model: PreTrainedModel) -> PreTrainedModel:
    """Linear probe: the encoder is frozen, the head is trained."""
    model.requires_grad_(False)
    head_of(model)[1].requires_grad_(True)
    return model


def lora(
    model: PreTrainedModel, task: Task, params: LowRankAdapter, initialisation: Literal["default", "pissa"] = "default"
) -> peft.PeftModel:
    """LoRA (Hu et al. 2021): W + (alpha / rank) B A with B, A of `rank`.

    On a model whose weights are in 4 bits it is QLoRA (Dettmers et al. 2023).
    """
    # Imported here: it takes seconds, and the other approaches do without.
    import peft

    config = peft.LoraConfig(
        task_type=task,
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=params.target_modules,
        use_rslora=params.rank_stabilised,
        use_dora=params.dora,
        init_lora_weights="pissa" if initialisation == "pissa" else True,
    )
    return add_adapter(model, config)


def ia3(model: PreTrainedModel, task: Task, params: Ia3Adapter) -> peft.PeftModel:
    """IA3 (Liu et al. 2022): keys, values and feed-forward activations are each scaled by a learnt vector."""
    import peft

    config = peft.IA3Config(
        task_type=task, target_modules=params.target_modules, feedforward_modules=params.feedforward_modules
    )
    return add_adapter(model, config)


def prompt_tuning(model: PreTrainedModel, task: Task, params: LearntPrompt) -> peft.PeftModel:
    """Prompt tuning (Lester et al. 2021; `words`: section 3.2): learnt vectors before the embeddings of tokens."""
    import peft

    config = peft.PromptTuningConfig(
        task_type=task,
        num_virtual_tokens=params.num_virtual_tokens,
        prompt_tuning_init=peft.PromptTuningInit.SAMPLE_VOCAB if params.initialisation == "words" else "RANDOM",
    )
    return add_adapter(model, config)


def prefix_tuning(model: PreTrainedModel, task: Task, params: LearntPrefix) -> peft.PeftModel:
    """Prefix tuning (Li & Liang 2021), at every layer and with a head, as in P-tuning v2 (Liu et al. 2022)."""
    import peft

    config = peft.PrefixTuningConfig(
        task_type=task,
        num_virtual_tokens=params.num_virtual_tokens,
        prefix_projection=params.projection_width is not None,
        encoder_hidden_size=params.projection_width or 0,
    )
    adapted = add_adapter(model, config)
    if params.projection_width is None:
        for name, parameter in adapted.named_parameters():
            if "prompt_encoder" in name:
                with torch.no_grad():
                    parameter.mul_(PREFIX_SCALE)
    return adapted


def add_adapter(model: PreTrainedModel, config: peft.PeftConfig) -> peft.PeftModel:
    """The model with the adapter; `ValueError`: no such layer, or a tied one."""
    import peft

    logits: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    embeddings = model.get_input_embeddings()
    is_tied = logits is not None and logits.weight is embeddings.weight
    tied = {name for name, module in model.named_modules() if is_tied and (module is embeddings or module is logits)}
    adapted = peft.get_peft_model(model, config)
    if found := tied.intersection(getattr(adapted, "targeted_module_names", [])):
        raise ValueError(
            f"`target_modules` has {min(found)}, whose weights are those of {' and '.join(sorted(tied - found))} too "
            "(`tie_word_embeddings`), so that merging would change both: take it out"
        )
    return adapted


def load_weights(
    kind: Any, base: str, settings: dict[str, Any] | None, device: torch.device | None, **arguments: Any
) -> Any:
    """A model on CPU as it is; or, with settings of `four_bit_settings`, in 4 bits on the device, None: on CPU."""
    if settings is not None:
        quantisation = BitsAndBytesConfig(**settings)  # type: ignore[no-untyped-call]
        arguments |= {"quantization_config": quantisation, "device_map": {"": device or "cpu"}}
    model = kind.from_pretrained(
        base, local_files_only=True, trust_remote_code=False, use_safetensors=True, **arguments
    )
    if settings is None:
        return model
    # Imported here: it takes a second, and QLoRA alone needs it.
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # On some CPUs it would pack weights anew at the first forward pass without gradients, rounded to
            # bfloat16, and the model that is evaluated would not be the one that was trained.
            module.support_avx512bf16_for_cpu = False
    return model


def save_weights(model: Any, folder: Path) -> None:
    """Save a whole model; or an adapter of peft, the settings of a base in 4 bits beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(model, PreTrainedModel):
        if quantisation := getattr(model.get_base_model().config, "quantization_config", None):
            values = quantisation if isinstance(quantisation, dict) else quantisation.to_dict()
            known = four_bit_settings(True, None, ())
            write_json(folder / QUANTISATION_FILE, {name: values[name] for name in known})
        for adapter in model.peft_config.values():
            # The order of a set in the saved file would follow the hash seed.
            for name, value in list(vars(adapter).items()):
                if isinstance(value, set):
                    setattr(adapter, name, sorted(value))
    # Of a soft prompt peft checks whether the vocabulary has grown, and asks the hub.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not find a config file")
        model.save_pretrained(str(folder))
