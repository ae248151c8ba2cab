"""Export a language model for other programs: `make export MODEL=sft@lora`.

Writes `models/export/<model>/`: the model with its adapter merged, as safetensors with tokenizer and chat template, and
`export.json`, what the export changed. It is read back and asked questions of the test split. What merging and rounding
changed from the model that was trained is printed; too much is an error, and what lay there before stays. QLoRA is
merged into the base in full precision, and may change more. docs/serving.md makes GGUF of it by llama.cpp's converter.
"""

import gc
import operator
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from assay.compute.cost import folder_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.fine_tuning.quantization import QUANTISATION_FILE
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import Message, tokenise_prompts
from assay.language_models.checkpoint import CausalLM, Decoding, generate_answers, load_causal_lm, save_causal_lm
from assay.language_models.named_models import load_generation_models
from tools.ask import model_folder
from tools.command_line import command_line
from tools.export.merge import merge_adapter

TEST = Path("data/instruct/test.parquet")
EXPORTED = Path("models/export")
QUESTIONS = 5
TYPES = ("float32", "float16", "bfloat16")
"""Types of weights, by PyTorch's names."""
MAX_ROUNDED = 1.0
"""The most by which merging and rounding may change a logit; after QLoRA, whose base was in 4 bits, any number."""


@torch.inference_mode()
def replies(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]], device: Device, what: str
) -> tuple[NDArray[np.float32], list[str]]:
    """What a model says to `n` chats: logits of the first token, shape `(n, v)`, and the greedy answers.

    One chat at a time, so that padding has no part in it.
    """
    decoding = Decoding(max_new_tokens=64, temperature=0.0, top_p=1.0, repetition_penalty=1.0, batch_size=1)
    answers = generate_answers(model, tokenizer, chats, decoding, device, 0, what)
    logits = [
        model(input_ids=torch.tensor([ids], device=device.device)).logits[0, -1].float().cpu().numpy()
        for ids in tokenise_prompts(tokenizer, chats)
    ]
    return np.stack(logits), answers


def test_questions() -> list[list[Message]]:
    """The first chats of the test split that ask a question, without answers; an `InputError` if there is no split."""
    if not TEST.is_file():
        raise InputError(f"{TEST}: no such file; run `dvc repro instruct_data` first")
    rows = pl.read_parquet(TEST, columns=["task", "messages"])
    chats: list[list[Message]] = rows.filter(pl.col("task") != "label")["messages"].head(QUESTIONS).to_list()
    return [chat[:-1] for chat in chats]


def export(folder: Path, weights: str, device: Device, out: Path) -> dict[str, Any]:
    """Write the export of a model, read it back, and ask it test questions; returns what the export changed.

    An `InputError` if the model cannot be exported, or rounding changes more than `MAX_ROUNDED`.
    """
    chats = test_questions()
    arguments = load_params("template_arguments", TemplateArguments)
    trained, tokenizer = load_causal_lm(folder, device.device, arguments)
    logits, answers = replies(trained, tokenizer, chats, device, "the model")
    del trained
    gc.collect()
    with output_folder(out) as draft:
        model, tokenizer = load_causal_lm(folder, torch.device("cpu"), arguments, quantised=False)
        model = model if isinstance(model, PreTrainedModel) else merge_adapter(model, folder)
        model.config.dtype = getattr(torch, weights)
        save_causal_lm(model.to(getattr(torch, weights)).eval(), tokenizer, draft)
        del model
        gc.collect()
        plain, tokenizer = load_causal_lm(draft, device.device)
        new_logits, new_answers = replies(plain, tokenizer, chats, device, "safetensors")
        difference = float(np.abs(new_logits - logits).max())
        allowed = inf if (folder / QUANTISATION_FILE).is_file() else MAX_ROUNDED
        if not difference < allowed:  # a difference that is no number is none to keep
            raise InputError(
                f"{folder}: a logit of the export differs by {difference:.2g} from the model as trained, and {allowed} "
                "is the most that is kept; export with --type float32"
            )
        found = {
            "model": str(folder),
            "type": weights,
            "questions": len(chats),
            "logit_difference_from_trained": difference,
            "answers_as_trained": sum(map(operator.eq, new_answers, answers)),
        }
        write_json(draft / "export.json", found)
    return found


def main() -> None:
    """Export the model named on the command line."""
    parser = command_line("python -m tools.export.language_model", __doc__, whole=True)
    parser.add_argument("model", help="sft@<approach>, a name of generation_models, or a folder")
    parser.add_argument("--type", choices=TYPES, default="float16", help="of the weights (default: float16)")
    arguments = parser.parse_args()
    folder = model_folder(arguments.model, load_generation_models())
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    out = EXPORTED / arguments.model.strip("/").replace("/", "-").replace("@", "-")
    found = export(folder, arguments.type, device, out)
    print(
        f"{out}: {folder_mib(out):,.0f} MiB in {arguments.type}; the largest difference of a logit from the model as "
        f"trained is {found['logit_difference_from_trained']:.2g}, {found['answers_as_trained']} of "
        f"{found['questions']} greedy answers are the same"
    )


if __name__ == "__main__":
    run_stage(main)
