"""Recipes with a model: neighbours of words, paraphrases, translations there and back."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from assay.augmentation.apply import augment_texts
from assay.augmentation.recipes import BackTranslation, Embedding, Paraphrase, require_models
from assay.augmentation.textattack_import import readable_wordnet
from assay.compute.device import Device
from assay.core.errors import InputError

DEVICE = Device(torch.device("cpu"), torch.float32)
TEXTS = ["the awful movie of <EMAIL> today", "I hate my broken phone, really", "", "it is", "great " * 200]


@pytest.fixture(scope="module")
def chat_model(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama that generates, with a chat template, of random weights."""
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("chat")
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(tiny_decoder)
    config.max_position_embeddings = 512
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %} :"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def translator(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real T5 of random weights."""
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("translator")
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    torch.manual_seed(2)
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    config.decoder_start_token_id = config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = tokenizer.sep_token_id
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def embedding(model: str, share_of_rows: float = 1.0) -> Embedding:
    return Embedding(
        name="embedding", share_of_rows=share_of_rows, share_of_words=1.0, model=model, neighbours=3, min_cosine=0.01,
        batch_size=8,
    )  # fmt: skip


def paraphrase(model: str, endpoint: str | None = None) -> Paraphrase:
    block = {"name": "paraphrase", "share_of_rows": 1.0, "model": model, "endpoint": endpoint, "batch_size": 2}
    return Paraphrase.model_validate(block | {"key_variable": "ASSAY_KEY"})


def test_neighbours_of_words(scratch: Path, tiny_encoder: Path) -> None:
    recipe = embedding(str(tiny_encoder))
    copies = augment_texts(TEXTS, list(range(len(TEXTS))), recipe, scratch, 1, DEVICE)
    assert copies[1] != TEXTS[1]
    assert "<EMAIL>" in copies[0]
    assert copies[2:4] == TEXTS[2:4]
    assert augment_texts(TEXTS[:1], [0], recipe, scratch, 1, DEVICE) == copies[:1]


def test_opposites_forms_and_other_parts_of_speech_are_no_neighbours(scratch: Path) -> None:
    from assay.augmentation.embedding_neighbours import _may_replace
    from assay.augmentation.wordnet import open_wordnet

    wordnet = open_wordnet(readable_wordnet(scratch))
    assert _may_replace("movie", "film", wordnet)
    assert not _may_replace("movie", "movies", wordnet)
    assert not _may_replace("movie", "awful", wordnet)


def test_paraphrases_by_a_local_model(scratch: Path, chat_model: Path) -> None:
    copies = augment_texts(TEXTS[:4], [0] * 4, paraphrase(str(chat_model)), scratch, 1, DEVICE)
    assert len(copies) == 4
    assert copies[0] != TEXTS[0]
    assert augment_texts(TEXTS[:1], [9], paraphrase(str(chat_model)), scratch, 1, DEVICE) == copies[:1]
    # Longer than the model can take: left as it is.
    long = "great " * 600
    assert augment_texts([long], [0], paraphrase(str(chat_model)), scratch, 1, DEVICE) == [long]
    special = f"{TEXTS[0]} [SEP]"
    assert augment_texts([special], [0], paraphrase(str(chat_model)), scratch, 1, DEVICE) == [special]


def test_a_model_without_a_chat_template_is_refused(scratch: Path, tiny_decoder: Path) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        augment_texts(TEXTS, [0] * len(TEXTS), paraphrase(str(tiny_decoder)), scratch, 1, DEVICE)


def test_translations_there_and_back(scratch: Path, translator: Path) -> None:
    recipe = BackTranslation(
        name="back_translation", share_of_rows=1.0, forward=str(translator), backward=str(translator), batch_size=2
    )
    copies = augment_texts(TEXTS[:2], [0, 1], recipe, scratch, 1, DEVICE)
    assert len(copies) == 2
    assert all(isinstance(copy, str) and copy for copy in copies)


class _Server(BaseHTTPRequestHandler):
    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[list[str | None]] = []
    statuses: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0) if self.statuses else 200
        self.asked.append(body)
        self.keys.append(self.headers["Authorization"])
        text = body["messages"][0]["content"].rsplit("Text: ", 1)[1]
        answer = json.dumps({"choices": [{"message": {"content": f' "other words: {text}" '}}]}).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("ASSAY_KEY", "secret")
    _Server.asked.clear()
    _Server.keys.clear()
    _Server.statuses.clear()
    server = HTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_paraphrases_by_a_server(scratch: Path, endpoint: str) -> None:
    _Server.statuses += [429, 503]
    copies = augment_texts(TEXTS[:2], [0, 1], paraphrase("big", endpoint), scratch, 1, DEVICE)
    assert copies == [f"other words: {text}" for text in TEXTS[:2]]
    assert len(_Server.asked) == 4
    assert {body["model"] for body in _Server.asked} == {"big"}
    assert set(_Server.keys) == {"Bearer secret"}


def test_a_server_that_refuses_or_is_not_there(scratch: Path, endpoint: str) -> None:
    _Server.statuses += [401]
    with pytest.raises(InputError, match=r"/v1/chat/completions: status 401: .*mend `endpoint`, `model` or the key"):
        augment_texts(TEXTS[:1], [0], paraphrase("big", endpoint), scratch, 1, DEVICE)
    with pytest.raises(InputError, match="no answer after 4 tries"):
        augment_texts(TEXTS[:1], [0], paraphrase("big", "http://127.0.0.1:9/v1"), scratch, 1, DEVICE)


def test_models_that_are_not_there_are_named_before_anything_is_done(tmp_path: Path) -> None:
    for recipe in (
        embedding(str(tmp_path)),
        paraphrase(str(tmp_path)),
        BackTranslation(name="back_translation", share_of_rows=0.1, forward="a", backward="b", batch_size=1),
    ):
        with pytest.raises(InputError, match=rf"{recipe.name} needs a model in .*fetch\.assets"):
            require_models([recipe])
    require_models([paraphrase("name on the server", "http://127.0.0.1:9/v1")])
    require_models([embedding(str(tmp_path), share_of_rows=0.0)])
