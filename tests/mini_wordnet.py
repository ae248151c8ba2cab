"""A WordNet of a few real synsets, in the format of the database files (wndb(5WN) and senseidx(5WN))."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

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


# The order gives the senses of a word, the most frequent first.
SYNSETS = [
    MiniSynset(
        "n", 10, {"movie": 22, "film": 9, "picture": 2, "moving_picture": 1, "pic": 0}, "a form of entertainment"
    ),
    MiniSynset("n", 6, {"picture": 30, "image": 5}, "a visual representation"),
    MiniSynset("n", 6, {"telephone": 13, "phone": 19}, "electronic equipment that converts sound"),
    MiniSynset("n", 21, {"cost": 9, "price": 8, "toll": 1}, "value measured by what must be given"),
    MiniSynset("n", 26, {"trouble": 6, "problem": 11}, "a source of difficulty"),
    MiniSynset("n", 6, {"toilet": 3, "lavatory": 2, "john": 1}, "a room equipped with washing facilities"),
    MiniSynset("n", 18, {"Apostle_John": 0, "John": 4}, "disciple of Jesus"),
    MiniSynset("v", 37, {"love": 43}, "have a great affection for"),
    MiniSynset("v", 37, {"hate": 23, "detest": 9}, "dislike intensely"),
    MiniSynset("v", 40, {"buy": 48, "purchase": 27}, "obtain by purchase"),
    MiniSynset("v", 31, {"urge": 2, "recommend": 9, "advocate": 4}, "push for something"),
    MiniSynset("a", 0, {"good": 159}, "having desirable qualities"),
    MiniSynset("a", 0, {"dear": 2, "good": 1, "near": 1}, "with or in a close relationship"),
    MiniSynset("a", 0, {"bad": 57}, "having undesirable qualities"),
    MiniSynset("a", 0, {"great": 70, "outstanding": 4}, "of major significance"),
    MiniSynset("a", 0, {"greatest": 4, "sterling": 1, "superlative": 1}, "highest in quality"),
    MiniSynset("a", 0, {"awful": 3, "dreadful": 5, "terrible": 4}, "exceptionally bad"),
    MiniSynset("a", 0, {"happy": 37, "glad": 3}, "enjoying well-being"),
    MiniSynset("a", 0, {"cheap": 9, "inexpensive": 4}, "relatively low in price"),
    MiniSynset("a", 0, {"fast": 4, "quick": 2}, "acting or moving rapidly"),
    MiniSynset("r", 2, {"really": 35, "truly": 13, "genuinely": 3}, "in accordance with truth"),
    MiniSynset("r", 2, {"never": 100, "ne'er": 1}, "not ever"),
]


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
