import subprocess
import sys
from pathlib import Path

import pytest

from assay.augmentation.textattack_import import WORDNET_FILES, write_textattack_data
from assay.core.errors import InputError
from tests.mini_wordnet import write_mini_wordnet

IMPORT_WITHOUT_NETWORK = """
import os, socket, sys
from pathlib import Path

def refuse(*arguments, **named):
    raise AssertionError("the network was opened")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse

from assay.augmentation.textattack_import import import_textattack, readable_wordnet, write_textattack_data

wordnet, scratch = Path(sys.argv[1]), Path(sys.argv[2])
before = dict(os.environ)
write_textattack_data(wordnet, scratch)
import_textattack(scratch)
assert dict(os.environ) == before

from assay.augmentation.character_noise import CharacterNoise
from assay.augmentation.augmenter import KeyedAugmenter
from assay.augmentation.wordnet import WordNetSynonymSwap

import flair
assert flair.__spec__ is None, "the stand-in, not the package"
print(KeyedAugmenter(WordNetSynonymSwap(readable_wordnet(scratch)), 1.0).augment("a movie")[0])
print(KeyedAugmenter(CharacterNoise(("swap",)), 1.0).augment("a movie")[0] != "a movie")
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    write_mini_wordnet(tmp_path / "wordnet")
    return tmp_path / "wordnet"


@pytest.mark.slow
def test_textattack_imports_and_works_without_a_network(wordnet: Path, tmp_path: Path, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_NETWORK, str(wordnet), str(tmp_path / "scratch")],
        capture_output=True,
        text=True,
        check=False,
        # No cache of the user's helps.
        env={"PATH": "", "HOME": str(tmp_path / "home"), "PYTHONPATH": str(repository)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["a film", "True"]
    # Nor is one made.
    assert not list((tmp_path / "home").rglob("*nltk*")) + list((tmp_path / "home").rglob("*textattack*"))


def test_links_are_copied(wordnet: Path, tmp_path: Path) -> None:
    # As DVC leaves them with a cache of symlinks; NLTK would not follow them.
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in WORDNET_FILES:
        (linked / name).symlink_to(wordnet / name)
    write_textattack_data(linked, tmp_path / "scratch")
    assert not any(file.is_symlink() for file in (tmp_path / "scratch").rglob("*"))


def test_a_missing_file_is_named(wordnet: Path, tmp_path: Path) -> None:
    (wordnet / "index.sense").unlink()
    with pytest.raises(InputError, match=r"wordnet/index\.sense: no such file"):
        write_textattack_data(wordnet, tmp_path / "scratch")


def test_carriage_returns_are_refused(wordnet: Path, tmp_path: Path) -> None:
    nouns = wordnet / "data.noun"
    nouns.write_bytes(nouns.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(InputError, match="convert: strip_carriage_returns"):
        write_textattack_data(wordnet, tmp_path / "scratch")
