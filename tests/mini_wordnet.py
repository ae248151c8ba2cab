"""A WordNet of a few real synsets, in the format of the database files (wndb(5WN) and senseidx(5WN))."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import yaml

PARTS = {"n": ("noun", 1), "v": ("verb", 2), "a": ("adj", 3), "r": ("adv", 4)}
LICENCE = "  1 Excerpts of WordNet 3.0. Copyright 2006 by Princeton University.  All rights reserved.\n"
EXCEPTIONS = {"noun": "men man\n", "verb": "bought buy\n", "adj": "better good\n", "adv": "best well\n"}


@dataclass(frozen=True)
class MiniSynset:
    """A synset: part of speech, number of its lexicographer file, and its words with how often each is tagged."""

    part: str
    lexicographer_file: int
    words: dict[str, int]
    gloss: str


SYNSETS = [MiniSynset(*row) for row in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))]


def write_mini_wordnet(folder: Path) -> None:
    """Write the database files of a small WordNet to a folder, which is made; byte offsets in the indexes are right."""
    folder.mkdir(parents=True, exist_ok=True)
    senses: list[tuple[str, int, int, int]] = []
    for part, (name, number) in PARTS.items():
        offsets_of: defaultdict[str, list[int]] = defaultdict(list)
        lines = LICENCE
        for synset in (s for s in SYNSETS if s.part == part):
            offset = len(lines.encode())
            words = []
            for word, count in synset.words.items():
                # Tells the senses of a word in one lexicographer file apart; any number will do.
                lexical_id = len(offsets_of[word.lower()])
                offsets_of[word.lower()].append(offset)
                words.append(f"{word} {lexical_id:x}")
                key = f"{word.lower()}%{number}:{synset.lexicographer_file:02d}:{lexical_id:02d}::"
                senses.append((key, offset, lexical_id + 1, count))
            frames = "01 + 02 00 " if part == "v" else ""
            lines += (
                f"{offset:08d} {synset.lexicographer_file:02d} {part} {len(words):02x} {' '.join(words)} 000 {frames}"
                f"| {synset.gloss}  \n"
            )
        index = "".join(
            f"{word} {part} {len(offsets)} 0 {len(offsets)} {len(offsets)} {' '.join(f'{o:08d}' for o in offsets)}  \n"
            for word, offsets in sorted(offsets_of.items())
        )
        write(folder / f"data.{name}", lines)
        write(folder / f"index.{name}", LICENCE + index)
        write(folder / f"{name}.exc", EXCEPTIONS[name])
    write(
        folder / "index.sense",
        "".join(f"{key} {offset:08d} {sense} {count}\n" for key, offset, sense, count in sorted(senses)),
    )
    write(
        folder / "cntlist.rev", "".join(f"{key} {sense} {count}\n" for key, _, sense, count in sorted(senses) if count)
    )
    write(folder / "lexnames", "".join(f"{number:02d}\tlexicographer.file{number}\t1\n" for number in range(45)))


def write(file: Path, text: str) -> None:
    # Not by the platform's line ends: offsets are in bytes.
    file.write_bytes(text.encode())
