"""Typing errors, reading errors of scanners, and other cases of letters, as TextAttack's word swap.

The first and the last letter stay, as they mostly do when people mistype. Import it after `import_textattack`.
"""

from functools import lru_cache
from random import Random

from assay.augmentation.augmenter import DrawnSwap
from assay.augmentation.recipes import NoiseKind

KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LOWER_CASE = "abcdefghijklmnopqrstuvwxyz"

OCR_CONFUSIONS = (
    ("m", "rn"),
    ("w", "vv"),
    ("d", "cl"),
    ("h", "b"),
    ("l", "i"),
    ("c", "e"),
    ("u", "v"),
    ("n", "ri"),
    ("o", "0"),
    ("l", "1"),
    ("s", "5"),
)
"""Letters that scanners take for each other, those of a pair both ways (Nguyen et al. 2021, survey of OCR errors)."""


def _beside(key: str) -> str:
    """The keys that touch a key on a QWERTY keyboard, whose rows are each shifted by about half a key."""
    row = next(number for number, keys in enumerate(KEY_ROWS) if key in keys)
    column = KEY_ROWS[row].index(key)
    places = [(row, column - 1), (row, column + 1), (row - 1, column), (row - 1, column + 1)]
    places += [(row + 1, column - 1), (row + 1, column)]
    return "".join(KEY_ROWS[r][c] for r, c in places if 0 <= r < len(KEY_ROWS) and 0 <= c < len(KEY_ROWS[r]))


KEYS_BESIDE = {key: _beside(key) for key in LOWER_CASE}


@lru_cache(maxsize=50_000)
def misspell(word: str, kind: NoiseKind) -> tuple[str, ...]:
    """Every form of a word with one error of a kind, in alphabetical order, without the word itself.

    Args:
        kind: `swap` two letters, `delete` or `insert` one, hit a key beside (`keyboard`), read a letter as one that
            looks like it (`ocr`), or change the `case`.
    """
    inner = range(1, len(word) - 1)
    if kind == "swap":
        found = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in inner[:-1]}
    elif kind == "delete":
        found = {word[:i] + word[i + 1 :] for i in inner}
    elif kind == "insert":
        found = {word[:i] + letter + word[i:] for i in inner for letter in LOWER_CASE}
    elif kind == "keyboard":
        found = {word[:i] + key + word[i + 1 :] for i in inner for key in KEYS_BESIDE.get(word[i].lower(), "")}
    elif kind == "ocr":
        pairs = [*OCR_CONFUSIONS, *((right, left) for left, right in OCR_CONFUSIONS)]
        found = {
            word[:i] + right + word[i + len(left) :]
            for left, right in pairs
            for i in inner
            if word.startswith(left, i) and i + len(left) < len(word)
        }
    else:
        found = {word.lower(), word.upper(), word.capitalize()}
        found |= {word[:i] + word[i].swapcase() + word[i + 1 :] for i in inner}
    return tuple(sorted(found - {word}))


class CharacterNoise(DrawnSwap):
    """One error in a word.

    Args:
        kinds: of errors; each is as likely as the others, where a word can have it.
    """

    def __init__(self, kinds: tuple[NoiseKind, ...]) -> None:
        super().__init__()
        self.kinds = kinds

    def draw(self, word: str, draws: Random) -> str | None:
        """The word with an error; in capitals where the word is."""
        for kind in draws.sample(self.kinds, len(self.kinds)):
            if forms := misspell(word, kind):
                form = draws.choice(forms)
                return form.upper() if word.isupper() and kind != "case" else form
        return None

    def _get_replacement_words(self, word: str) -> list[str]:
        return [form for kind in self.kinds for form in misspell(word, kind)]
