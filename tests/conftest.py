"""Fixtures shared by tests: small, real, offline."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny_models import write_tiny_chat_model, write_tiny_decoder, write_tiny_encoder

# Times are for benchmarks: Hypothesis' limit of 0.2 s an example fails on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# One thread a test process: two on two cores slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LONGEST_BYTES_IN_A_NAME = 100


def pytest_make_parametrize_id(val: object, argname: str) -> None:
    """Keep bytes of archives, which hold the time, out of the names of cases: workers compare their collections."""
    if isinstance(val, bytes) and len(val) > LONGEST_BYTES_IN_A_NAME:
        raise pytest.UsageError(f"`{argname}` has {len(val)} bytes, which would name a case: give `ids` or a function")


REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out comparisons with the template's own results, unless `-m` names them: a fork's results are others.

    Where `make start` has removed them, there is nothing to compare with.
    """
    if "figures" not in config.getoption("-m"):
        left_out = [item for item in items if item.get_closest_marker("figures")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
        return
    # Imported here: it takes a second, and few runs need it.
    from tools.new.start import STARTED

    if STARTED in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"):
        for item in items:
            if item.get_closest_marker("figures"):
                item.add_marker(pytest.mark.skip(reason="the template's results were removed here, by `make start`"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real BERT of 2 layers and 32 dimensions, random weights, and a WordPiece tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_encoder")
    write_tiny_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_decoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real Llama of 2 layers and 32 dimensions, random weights, and the tokenizer of `tiny_encoder`."""
    folder = tmp_path_factory.mktemp("tiny_decoder")
    write_tiny_decoder(folder, tiny_encoder)
    return folder


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TextAttack, imported, and the folder with a small WordNet that it reads."""
    from assay.augmentation.textattack_import import import_textattack, write_textattack_data
    from tests.mini_wordnet import write_mini_wordnet

    folder = tmp_path_factory.mktemp("textattack")
    write_mini_wordnet(folder / "wordnet")
    write_textattack_data(folder / "wordnet", folder / "scratch")
    import_textattack(folder / "scratch")
    return folder / "scratch"


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real Llama for chats: 2 layers, 32 dimensions, random weights, a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("tiny_chat_model")
    write_tiny_chat_model(folder)
    return folder
