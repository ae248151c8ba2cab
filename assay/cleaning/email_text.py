"""What of an e-mail its writer wrote: without quoted mails, and without the signature; docs/cleaning.md has the rules.

Line by line, with patterns of bounded length, so the time is linear in the text. Packages for this (quotequail 0.5,
mail-parser-reply 1.36) know the words of some languages, cut forwarded mails off, and are slow on hostile texts.

Where it is not clear that a line was not written for this mail, it stays: what is left too much is noise, what is taken
too much is lost. Where something is taken, line ends become `\\n`.
"""

import re
from pathlib import Path

import yaml

from assay.core.patterns import fill_patterns

MAX_SIGNATURE_LINES = 10
MAX_SIGNATURE_LINE_CHARACTERS = 60
"""A longer line after a closing formula is a sentence that goes on."""

MAX_ANNOUNCEMENT_LINES, MAX_ANNOUNCEMENT_CHARACTERS = 4, 300
MAX_ROUNDS = 10

_WORDS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("mail_words.yaml").read_text(encoding="utf-8"))
_PATTERNS = fill_patterns(
    yaml.safe_load(Path(__file__).with_name("mail_patterns.yaml").read_text(encoding="utf-8")),
    {f"words:{purpose}": "|".join(words) for purpose, words in _WORDS.items()},
)
QUOTE_SIGNS, SIGNATURE_SIGNS = _PATTERNS.pop("quote_signs"), _PATTERNS.pop("signature_signs")
"""Gates for `without_quotes` and `without_signature`, for Rust: what a text has that they change."""
_RE = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
_HEADERS = {word: kind for kind in ("from", "date", "subject", "to") for word in _WORDS[kind]}
_PARTICLES = frozenset(_WORDS["particles"])


def without_quotes(text: str) -> str:
    """A text of several lines without the mails that it quotes; itself, if nothing else would be left."""
    for _ in range(MAX_ROUNDS):
        text, is_sure = _with_one_layer_less(text)
        if is_sure:
            break
    return text


def _with_one_layer_less(text: str) -> tuple[str, bool]:
    """The text without what is seen to be quoted, and whether another look would see the same.

    What goes can show that what was above it announced a quote; so that is sure where no line with a mark is left.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    whole, kept, is_sure = "\n".join(lines), list[str](), True
    part, first, number, seen = 0, 0, 0, 0  # where the mail that is read begins, in `kept` and in `lines`
    while number < len(lines):
        line = lines[number]
        # What a line has with which a quote can begin; this is the place where the time goes.
        if not (":" in line or ">" in line or "---" in line or "___" in line or "：" in line):  # noqa: RUF001
            kept.append(line)
            number += 1
            continue
        separator, is_mail = _separator(lines, number), False
        if separator or number >= seen:
            seen, is_mail = _headers_end(lines, number, bool(separator))
        if separator or is_mail:
            after = seen
        elif _is_quoted(lines, number):
            number += 1
            continue
        else:
            kept.append(lines[number])
            number += 1
            announced = _announcement_lines(lines, number - 1, first)
            if not announced:
                is_sure = False
                continue
            del kept[-announced:]
            after = _next_with_text(lines, number)
            if _is_quoted(lines, after):
                number = next((place for place in range(after, len(lines)) if not _is_quoted(lines, place)), len(lines))
                continue
        while kept and (not kept[-1].strip() or _RE["ruler"].fullmatch(kept[-1])):
            kept.pop()
        if separator != "forward" and any(map(str.strip, kept[part:])):
            break
        kept += [""] * bool(kept)
        number = first = _next_with_text(lines, after)
        part = len(kept)
    left = "\n".join(kept)
    return (text, True) if left == whole or not left.strip() else (left.strip("\n").rstrip(), is_sure)


def _next_with_text(lines: list[str], number: int) -> int:
    """The next line that is not blank, from this one on and among four; else the last of these."""
    return next((place for place in range(number, min(number + 4, len(lines))) if lines[place].strip()), number + 3)


def _is_quoted(lines: list[str], number: int) -> bool:
    """Whether a line is quoted; `> 5 kg`, not announced and alone, says more than that."""
    if number >= len(lines) or not _RE["quoted"].match(lines[number]):
        return False
    beside = lines[max(0, number - 2) : number] + lines[number + 1 : number + 2]
    return not _RE["more_than"].match(lines[number]) or any(
        _RE["quoted"].match(one) or one.rstrip()[-1:] == ":" for one in beside
    )


def _separator(lines: list[str], number: int) -> str | None:
    """`forward` or `reply` for a line that sets another mail off; None for others, and without headers below a colon.

    The quote signs before a forwarded mail are taken from `lines`.
    """
    if not lines[number].rstrip().endswith(("-", ":")):
        return None
    is_first = number == 0 or not _RE["quoted"].match(lines[number - 1])
    found = _RE["separator"].fullmatch(_RE["quote_sign"].sub("", lines[number]) if is_first else lines[number])
    words = _RE["separating"].search(found[1] or found[2]) if found else None
    if not found or not words or not words[1]:
        below = "\n".join(lines[number + 1 : number + 4]).strip().partition("\n")[0]
        is_sure = "-----" in lines[number] or _RE["header"].fullmatch(_RE["quote_sign"].sub("", below))
        return "reply" if found and words and found[1] and is_sure else None
    end = number + 1
    while end < len(lines) and (not lines[end].strip() or _RE["quoted"].match(lines[end])):
        end += 1
    quoted, lines[number:end] = lines[number:end], [_RE["quote_sign"].sub("", line) for line in lines[number:end]]
    if found[1] or _headers_end(lines, number, True)[0] > number + 1:
        return "forward"
    lines[number:end] = quoted
    return None


def _headers_end(lines: list[str], number: int, after_separator: bool) -> tuple[int, bool]:
    """Where the headers that begin at a line, or after it, end, and whether mail programs write such over a mail.

    Those have who, when and about what; in other languages, first an address and then a time, or Outlook's line above.
    """
    start = _next_with_text(lines, number + 1) if after_separator else number
    has_line = start < len(lines) and bool(_RE["outlook"].fullmatch(lines[start]))
    end, kinds, block = number + after_separator, set[str](), list[str]()
    for place in range(start + has_line, len(lines)):
        line, found = lines[place], _RE["header"].fullmatch(lines[place])
        kind = _HEADERS.get(found[1].lower(), "") if found else ""
        is_sure = bool(found) and bool(kind or has_line or _RE["address"].search(line) or _RE["clock"].search(line))
        goes_on = bool(block and line.strip()) and (line[0] in " \t" or block[-1].rstrip()[-1:] in ";,")
        if not is_sure and not goes_on and not (block and found):
            break
        kinds.add(kind)
        block.append(line)
        end = place + 1 if is_sure or goes_on else end
    has_time = any(map(_RE["clock"].search, block if has_line else block[1:2]))
    is_shaped = len(block) > 2 and has_time and (has_line or bool(_RE["address"].search(block[0])))
    return end, is_shaped or {"from", "date", "subject"} <= kinds


def _announcement_lines(lines: list[str], number: int, first: int) -> int:
    """How many lines, from `first` on and up to this one, say who wrote what follows; none if they do not."""
    end = lines[number].rstrip(" \t*\u00a0")
    if not end.endswith((":", "：", ">")):  # noqa: RUF001
        return 0
    after = _next_with_text(lines, number + 1)
    is_quote, is_last, said = _is_quoted(lines, after), after >= len(lines), ""
    for place in range(number, max(first, number + 1 - MAX_ANNOUNCEMENT_LINES) - 1, -1):
        line = lines[place].strip(" \t*\u00a0")
        is_long = len(line) + len(said) > MAX_ANNOUNCEMENT_CHARACTERS
        if not line or is_long or _RE["quoted"].match(line) or (said and _RE["goes_on"].search(line)):
            break
        said = f"{line} {said}".strip()
        has_clock = _RE["clock"].search(said)
        if not has_clock and not _RE["day"].search(said):
            continue
        is_prose = sum(word[0].islower() and len(word) > 2 and "@" not in word for word in said.split()) > 3
        has_name = "@" in said or any(letter.isalpha() and not letter.islower() for letter in said)
        has_colon = not said.endswith(">")
        if is_quote and has_colon and has_name and ("@" in said or not is_prose or _RE["said"].search(said)):
            return number + 1 - place
        is_known = bool(_RE["begins"].match(said) and _RE["said"].search(said))
        if is_quote and is_known:
            return number + 1 - place
        if has_clock and (is_last or place == first or not lines[place - 1].strip() or _is_quoted(lines, place - 1)):
            if (is_known or (has_colon and after > number + 1)) and not is_prose and _RE["address"].search(said):
                return number + 1 - place
            if is_known and _RE["said_last"].search(said) and (is_last or "@" in said):
                return number + 1 - place
    return int(is_quote and len(end.split()) <= 8 and bool(_RE["said"].search(end)))


def without_signature(text: str) -> str:
    """A text of several lines without its signature; itself, if nothing else would be left."""
    lines = text.rstrip().replace("\r\n", "\n").split("\n")
    tail = range(len(lines) - 1, max(0, len(lines) - 1 - MAX_SIGNATURE_LINES), -1)
    cut = next((number for number in tail if _begins_a_signature(lines, number)), None)
    if cut is None:
        return text
    left = "\n".join(lines[:cut]).rstrip()
    return left if left.strip() else text


def _begins_a_signature(lines: list[str], number: int) -> bool:
    line = lines[number]
    after = [one.strip() for one in lines[number + 1 :] if one.strip()]
    if line.rstrip() == "--":
        is_short = all(len(one) <= 2 * MAX_SIGNATURE_LINE_CHARACTERS for one in after)
        # Without its space it may be a line between two parts of the text.
        return is_short and (line == "-- " or not after or _is_name(after[0]) or any(map(_RE["contact"].search, after)))
    if _RE["device"].fullmatch(_RE["link"].sub("", line) if "http" in line else line):
        return not after
    if not _RE["formula"].fullmatch(line) or not after or any(map(_is_sentence, after)):
        return False
    return _is_name(after[0]) or (line.rstrip().endswith(",") and after[0].isalpha())


def _is_name(line: str) -> bool:
    """Whether a line can be somebody's name: few words, most of them with a capital, and no sentence in capitals."""
    words = [word for word in re.split(r"[\s,]+", line.rstrip(" ,.")) if word.lower() not in _PARTICLES]
    capitals = sum(word[:1].isupper() for word in words)
    return 1 <= len(words) <= 5 and 2 * capitals > len(words) and not (len(words) > 3 and line.isupper())


def _is_sentence(line: str) -> bool:
    """Whether a line after a closing formula says something."""
    words = line.split()
    lower = sum(word[:1].islower() for word in words)
    is_long = len(line) > MAX_SIGNATURE_LINE_CHARACTERS
    return (
        (is_long and (2 * lower > len(words) or len(words) < 5 or line.isupper()))
        or line.endswith(("?", "!"))
        or (len(words) > 3 and 2 * lower > len(words) and not _RE["contact"].search(line))
    )
