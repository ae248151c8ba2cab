"""A model from a GGUF file, as llama.cpp reads them, in the form that transformers and peft train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assay.core.errors import InputError
from assay.core.progress import quiet_libraries


def gguf_to_safetensors(folder: Path) -> None:
    """Replace the one GGUF file of a folder by the same weights in float32, with configuration and tokenizer.

    Reading GGUF takes transformers some twenty seconds, each time, and what it reads cannot be saved as it is; once
    saved as safetensors it loads in one.

    Raises `InputError`: there is not exactly one GGUF file, or transformers cannot read it.
    """
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        raise InputError(
            f"{folder}: `convert: gguf_to_safetensors` needs one .gguf file, and there are "
            f"{[file.name for file in files] or 'none'}; correct `unpack`"
        )
    quiet_libraries()
    source, name = files[0].parent, files[0].name
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, gguf_file=name, local_files_only=True, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=name, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise InputError(f"{name}: transformers cannot read this model ({error}); take another file") from None
    # What says that the weights are quantised, and so cannot be saved.
    model.hf_quantizer = None
    del model.config.quantization_config
    # Where the file lay.
    model.config.name_or_path = ""
    files[0].unlink()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
