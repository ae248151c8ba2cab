"""Talk to a language model in the terminal, or ask it one question; the answer streams.

    make ask MODEL=sft@lora
    make ask MODEL=dpo QUESTION="How long does a building permit take?"

MODEL is `sft@<approach>`, a name of `generation_models` in params.yaml, or a folder. Beside a question the model gets
the passages that a search finds among the train answers, as `instruct_data.context` says; ARGS=--no-context turns that
off, ARGS="--max-new-tokens 300" lets answers be longer. In a conversation, `/new` begins another, and `/quit`, Ctrl-D
or Ctrl-C ends it.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.skipped import why_left_out
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.instruction_data.context import ask_beside
from assay.instruction_data.distractors import Exchange, read_exchanges
from assay.instruction_data.params import InstructDataParams
from assay.instruction_data.prompt_modes import retrieve
from assay.language_models.base_template import TemplateArguments
from assay.language_models.chat_template import tokenise_prompts
from assay.language_models.checkpoint import CausalLM, Decoding, generate_batch, load_causal_lm
from assay.language_models.named_models import load_generation_models
from tools.command_line import command_line

TRAIN = Path("data/instruct/train.parquet")
SFT = Path("models/sft")
Search = Callable[[str], list[Exchange]]
"""From a question to the rows whose answers are its passages."""


def model_folder(name: str, models: dict[str, str]) -> Path:
    """The folder of a model by what the user calls it; an `InputError` if there is none, or it was skipped here."""
    stage, _, approach = name.partition("@")
    folder = SFT / approach if stage == "sft" and approach else Path(models.get(name, name))
    if reason := why_left_out(folder):
        raise InputError(f"{name}: skipped on this machine: {reason}")
    if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        there = [*models, *(f"sft@{path.name}" for path in sorted(SFT.glob("*")) if path.is_dir())]
        raise InputError(f"{name}: no model in {folder}; there are {', '.join(there)}, once `make repro` has made them")
    return folder


def passage_search(params: InstructDataParams, embed: EmbedParams, device: Device) -> Search | None:
    """A search among the train answers; None: the params show no passages. An `InputError` if they are not there."""
    context = params.context
    if context is None:
        return None
    if not TRAIN.is_file():
        raise InputError(f"{TRAIN}: no such file; run `dvc repro instruct_data`, or ask with ARGS=--no-context")
    rows = pl.read_parquet(TRAIN).filter(pl.col("task") == "answer")
    base = read_exchanges(rows)
    answers = [one.answer for one in base]
    embeddings = embedded_texts(answers, embed, device)[0].embeddings

    def search(question: str) -> list[Exchange]:
        asked = embedded_texts([question], embed, device)[0].embeddings
        return retrieve(asked, embeddings, base, context)[0]

    return search


def streamed(
    model: CausalLM, tokenizer: Any, messages: Sequence[dict[str, str]], decoding: Decoding, device: Device
) -> str:
    """Print the answer to a chat as it comes, and return it; says so where it was cut."""
    from transformers import TextStreamer

    prompt = tokenise_prompts(tokenizer, [messages])[0]
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    answer, ended = generate_batch(model, tokenizer, [prompt], decoding, device, streamer=streamer)[0]
    if not ended:
        more = f'ARGS="--max-new-tokens {4 * len(answer)}" lets it go on'
        print(f"(cut at {len(answer)} tokens; {more})", file=sys.stderr)
    said: str = tokenizer.decode(answer, skip_special_tokens=True)
    return said.strip()


def converse(respond: Callable[[str, list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Ask and answer until the user ends it."""
    history: list[dict[str, str]] = []
    if sys.stdin.isatty():
        print("Ask away; /new begins another conversation, /quit ends it.", file=sys.stderr)
    while True:
        try:
            question = input("> " if sys.stdin.isatty() else "").strip()
            if question == "/quit":
                return
            if question == "/new":
                history = []
            elif question:
                history = respond(question, history)
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        except UnicodeDecodeError as error:
            shown = f"byte 0x{error.object[error.start]:02x}"
            raise InputError(f"standard input is not UTF-8 ({shown}); convert it: iconv -f LATIN1 -t UTF-8") from None


def main() -> None:
    """Load the model, and talk."""
    parser = command_line("python -m tools.ask", __doc__, whole=True)
    parser.add_argument("model", help="sft@<approach>, a name of generation_models, or a folder")
    parser.add_argument("--question", help="ask this, and leave")
    parser.add_argument("--no-context", action="store_true", help="show the model no passages")
    cut = "an answer is cut there; default: decoding.max_new_tokens of params.yaml"
    parser.add_argument("--max-new-tokens", type=int, help=cut)
    arguments = parser.parse_args()
    folder = model_folder(arguments.model, load_generation_models())
    params = load_params("instruct_data", InstructDataParams)
    decoding = load_params("decoding", Decoding)
    if arguments.max_new_tokens is not None:
        if arguments.max_new_tokens < 1:
            raise InputError(f"--max-new-tokens is {arguments.max_new_tokens}; it must be at least 1")
        decoding = decoding.model_copy(update={"max_new_tokens": arguments.max_new_tokens})
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    embed = load_params("embed", EmbedParams)
    search = None if arguments.no_context else passage_search(params, embed, device)
    model, tokenizer = load_causal_lm(folder, device.device, load_params("template_arguments", TemplateArguments))

    def respond(question: str, history: list[dict[str, str]]) -> list[dict[str, str]]:
        if odd := re.search("[\ud800-\udfff]", question):
            shown = f"byte 0x{ord(odd[0]) & 0xFF:02x}"
            raise InputError(f"the question is not UTF-8 ({shown}); convert it: iconv -f LATIN1 -t UTF-8")
        found = search(question) if search is not None else []
        prompt = params.context.prompt if params.context else ""
        chat = ask_beside(history, question, [one.answer for one in found], prompt)
        said = streamed(model, tokenizer, chat, decoding, device)
        if found:
            print(f"(passages shown: {', '.join(one.id for one in found)})", file=sys.stderr)
        # Questions stay bare there: passages found for an earlier one would crowd the later out.
        return [*history, {"role": "user", "content": question}, {"role": "assistant", "content": said}]

    if arguments.question is None:
        converse(respond)
    elif arguments.question.strip():
        respond(arguments.question.strip(), [])
    else:
        raise InputError('the question is empty; write QUESTION="…", or leave it away to talk')


if __name__ == "__main__":
    run_stage(main)
