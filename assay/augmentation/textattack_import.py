"""TextAttack as it can be imported beside a current transformers, and without a network."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import nltk
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from assay.core.errors import InputError

PARTS = ("noun", "verb", "adj", "adv")
WORDNET_FILES = (
    *(name for part in PARTS for name in (f"data.{part}", f"index.{part}", f"{part}.exc")),
    *("index.sense", "cntlist.rev", "lexnames"),
)
"""What NLTK reads of WordNet, without which it fails in the middle of the work."""


def write_textattack_data(wordnet: Path, scratch: Path) -> None:
    """Lay out what TextAttack and NLTK want to find, so that nothing is downloaded.

    - NLTK's data folder. WordNet is copied: NLTK refuses links that point out of the folder, as DVC's may. TextAttack
      reads a list of stop words at import; it gets scikit-learn's.
    - TextAttack's cache folder with the marker file without which it tries six downloads at import.

    Args:
        wordnet: the database files of WordNet 3.0, with LF line ends; an `InputError` where one is missing, or CRLF
            line ends put the byte offsets in the indexes off.
        scratch: an empty folder that lives as long as TextAttack is used.
    """
    _check_wordnet(wordnet)
    copied = readable_wordnet(scratch)
    copied.mkdir(parents=True)
    for name in WORDNET_FILES:
        shutil.copyfile(wordnet / name, copied / name)
    stop_words = copied.with_name("stopwords")
    stop_words.mkdir()
    (stop_words / "english").write_text("\n".join(sorted(ENGLISH_STOP_WORDS)), encoding="utf-8")
    (scratch / "textattack").mkdir()
    (scratch / "textattack" / "post_install_check_3").touch()


def readable_wordnet(scratch: Path) -> Path:
    """The folder with the WordNet that NLTK may read."""
    return scratch / "nltk_data" / "corpora" / "wordnet"


def import_textattack(scratch: Path) -> None:
    """Import TextAttack in this process: about 5 seconds. Afterwards, `import textattack` works anywhere in it.

    TextAttack imports flair, for part-of-speech and entity tags that nothing here uses, and flair holds transformers
    below 5. Where it is not installed, empty modules stand in for it. `write_textattack_data` has laid `scratch` out.
    """
    if "flair" not in sys.modules and importlib.util.find_spec("flair") is None:
        flair, data, models = (ModuleType(name) for name in ("flair", "flair.data", "flair.models"))
        vars(flair).update(device=None, data=data, models=models)
        vars(data).update(Sentence=type("Sentence", (), {}), Tokenizer=type("Tokenizer", (), {}))
        vars(models).update(SequenceTagger=type("SequenceTagger", (), {}))
        sys.modules.update({module.__name__: module for module in (flair, data, models)})

    # NLTK opens nothing outside the folders on this path.
    nltk.data.path.insert(0, str(scratch / "nltk_data"))
    before = dict(os.environ)
    os.environ["TA_CACHE_DIR"] = str(scratch / "textattack")
    try:
        import textattack  # noqa: F401
    finally:
        # Its import points the cache folders of other libraries at its own.
        os.environ.clear()
        os.environ.update(before)


def _check_wordnet(wordnet: Path) -> None:
    for name in WORDNET_FILES:
        file = wordnet / name
        if not file.is_file():
            raise InputError(f"{file}: no such file; `augment.wordnet` needs the database files of WordNet (`fetch`)")
    with (wordnet / "data.noun").open("rb") as nouns:
        if b"\r" in nouns.read(4096):
            raise InputError(
                f"{wordnet / 'data.noun'}: CRLF line ends, which put the byte offsets of the indexes off; set"
                " `convert: strip_carriage_returns` for this asset of `fetch`"
            )
