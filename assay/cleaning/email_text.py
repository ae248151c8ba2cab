"""What of an e-mail its writer wrote: without quoted mails, and without the signature; docs/cleaning.md has the rules.

Line by line, with patterns of bounded length, so the time is linear in the text. Packages for this (quotequail 0.5,
mail-parser-reply 1.36) know the words of some languages, cut forwarded mails off, and are slow on hostile texts.

Where it is not clear that a line was not written for this mail, it stays: what is left too much is noise, what is taken
too much is lost. Where something is taken, line ends become `\\n`.
"""

import re
from pathlib import Path

import yaml

MAX_SIGNATURE_LINES = 10
MAX_SIGNATURE_LINE_CHARACTERS = 60
"""A longer line after a closing formula is a sentence that goes on."""

MAX_ANNOUNCEMENT_LINES, MAX_ANNOUNCEMENT_CHARACTERS = 4, 300
MAX_ROUNDS = 10

_WORDS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("mail_words.yaml").read_text(encoding="utf-8"))
_ANY = {purpose: "|".join(words) for purpose, words in _WORDS.items()}
QUOTE_SIGNS = (
    rf"(?i)(?:^|\n)[ \t]*(?:>|-{{3,}}[ \t]*[^\s\-]|[ *]*(?:{_ANY['from']})[ \u00a0*]*[:：])"  # noqa: RUF001
    rf"|{_ANY['said']}|{_ANY['forwarded']}|[<\[]\s?[^\s<>]*@|_{{20}}"
)
"""A gate for `without_quotes`: what a text with quoted mail has, as a regular expression of Rust's."""

SIGNATURE_SIGNS = (
    r"(?i)(?:^|\n)[ \t]*(?:--[ \t\r]*(?:\n|$)|(?:all the )?best[ \t]*[,.!]?[ \t\r]*\n|diese nachricht wurde|von meine)|"
    r"\b(?:sent|get outlook|gesendet|envoyé|enviado|inviato|verstuurd|verzonden|wysłan[eo]|skickat|sendt|отправлено|"
    rf"{_ANY['closings']}|{_ANY['formulas']})\b|から送信"
)
"""The same for `without_signature`."""

_CLOCK = re.compile(r"(?<!\d)(?:[01]?\d|2[0-3])[:.h][0-5]\d(?!\d)")
_DAY = re.compile(r"(?<!\d)(?:\d{1,2}[./\-]\d{1,2}[./\-]\d{2,4}|(?:19|20)\d\d\D{1,15}\d|\d\D{1,15}(?:19|20)\d\d)(?!\d)")
_ADDRESS = re.compile(r"[<\[] ?(?:mailto:)?[^\s<>@\[\]]{1,64}@[^\s<>@\[\]]{1,255}[>\]]")
_BEGINS = re.compile(rf"(?:{_ANY['begins']})\b", re.IGNORECASE)
_SAID = re.compile(rf"(?<![a-z])(?:{_ANY['said']})", re.IGNORECASE)
_SAID_LAST = re.compile(rf"(?<![a-z])(?:{_ANY['said']})\W{{0,4}}$", re.IGNORECASE)
_GOES_ON = re.compile(r"\w{4}[.!?:;…]$|[!?。！？]$")  # noqa: RUF001
"""How a line ends of which the next is no continuation; `Do.` is the name of a day."""
_SEPARATOR = re.compile(r"[ \t]*(?:-{3,}[ \t]*([^\s\-].{2,50}?)[ \t]*-{3,}|([^\s>\d]\D{4,60}):)[ \t]*")
_SEPARATING = re.compile(f"({_ANY['forwarded']})|{_ANY['original']}", re.IGNORECASE)
_HEADER = re.compile(r"[ \t*]*([^\W\d_][^:：\n]{0,24}?)[ \t\u00a0*]*[:：][ \t*]*(.*)")  # noqa: RUF001
_HEADERS = {word: kind for kind in ("from", "date", "subject", "to") for word in _WORDS[kind]}
_RULER = re.compile(r"[ \t]*[_*=\-]{5,}[ \t]*")
_OUTLOOK = re.compile("[ \t]*_{20,}[ \t]*")
_QUOTED = re.compile(r"[ \t]*>(?![:;=]|[._^\-]+<)")
"""A quoted line; `>:(`, `>_<` and `>= 5` begin none."""
_QUOTE_SIGN = re.compile(r"^[ \t]*> ?")
_MORE_THAN = re.compile(r"[ \t]*>[ \t]?[$€£]?\d")
_LINK = re.compile(r"<https?:[^\s<>]*+>|\]\(https?:[^\s()]*+\)|\[")

_DEVICES = f"(?:{_ANY['devices']})"
_DEVICE = re.compile(
    # After the device come its names and numbers, but no sentence that goes on.
    rf"[ \t]*(?:sent (?:from|via|using|with) (?:my |the )?(?:(?-i:[A-Z])[\w&\-]{{1,15}} ){{0,3}}{_DEVICES}\b"
    r"(?:[ \-,]{1,2}+(?:(?-i:[A-Z0-9])[\w&.+\-]{0,15}+|for|on|by|from|via|with|my|app|phone|device|mobile|mail|"
    r"smartphone|secure|email)){0,8}+"
    rf"|get outlook for [\w ]{{2,20}}|(?:diese nachricht wurde )?von meine[mr] .{{0,30}}{_DEVICES}.{{0,30}}gesendet"
    rf"|(?:gesendet (?:von|mit|aus)|envoyé (?:de|depuis|à partir)|enviado (?:desde|do|a partir)|inviato (?:da|dal)|"
    rf"(?:verstuurd|verzonden) (?:vanaf|vanuit|met)|wysłan[eo] ze?|skickat från|sendt fra|отправлено \w{{1,2}})\b"
    rf".{{0,25}}{_DEVICES}\b[\w' \u2019\-]{{0,15}}|iphoneから送信)[ \t.]*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    rf"[ \t]*(?:(?:(?:{_ANY['before_closings']}) ){{0,5}}(?:{_ANY['closings']})|(?:all the )?best|{_ANY['formulas']})"
    r"[ \t]*[,.!]?[ \t]*",
    re.IGNORECASE,
)
_CONTACT = re.compile(r"\S@\S|www\.|https?:|[0-9][0-9 ()/.\-]{4,}[0-9]")
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
        while kept and (not kept[-1].strip() or _RULER.fullmatch(kept[-1])):
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
    if number >= len(lines) or not _QUOTED.match(lines[number]):
        return False
    beside = lines[max(0, number - 2) : number] + lines[number + 1 : number + 2]
    return not _MORE_THAN.match(lines[number]) or any(_QUOTED.match(one) or one.rstrip()[-1:] == ":" for one in beside)


def _separator(lines: list[str], number: int) -> str | None:
    """`forward` or `reply` for a line that sets another mail off; None for others, and without headers below a colon.

    The quote signs before a forwarded mail are taken from `lines`.
    """
    if not lines[number].rstrip().endswith(("-", ":")):
        return None
    is_first = number == 0 or not _QUOTED.match(lines[number - 1])
    found = _SEPARATOR.fullmatch(_QUOTE_SIGN.sub("", lines[number]) if is_first else lines[number])
    words = _SEPARATING.search(found[1] or found[2]) if found else None
    if not found or not words or not words[1]:
        below = "\n".join(lines[number + 1 : number + 4]).strip().partition("\n")[0]
        is_sure = "-----" in lines[number] or _HEADER.fullmatch(_QUOTE_SIGN.sub("", below))
        return "reply" if found and words and found[1] and is_sure else None
    end = number + 1
    while end < len(lines) and (not lines[end].strip() or _QUOTED.match(lines[end])):
        end += 1
    quoted, lines[number:end] = lines[number:end], [_QUOTE_SIGN.sub("", line) for line in lines[number:end]]
    if found[1] or _headers_end(lines, number, True)[0] > number + 1:
        return "forward"
    lines[number:end] = quoted
    return None


def _headers_end(lines: list[str], number: int, after_separator: bool) -> tuple[int, bool]:
    """Where the headers that begin at a line, or after it, end, and whether mail programs write such over a mail.

    Those have who, when and about what; in other languages, first an address and then a time, or Outlook's line above.
    """
    start = _next_with_text(lines, number + 1) if after_separator else number
    has_line = start < len(lines) and bool(_OUTLOOK.fullmatch(lines[start]))
    end, kinds, block = number + after_separator, set[str](), list[str]()
    for place in range(start + has_line, len(lines)):
        line, found = lines[place], _HEADER.fullmatch(lines[place])
        kind = _HEADERS.get(found[1].lower(), "") if found else ""
        is_sure = bool(found) and bool(kind or has_line or _ADDRESS.search(line) or _CLOCK.search(line))
        goes_on = bool(block and line.strip()) and (line[0] in " \t" or block[-1].rstrip()[-1:] in ";,")
        if not is_sure and not goes_on and not (block and found):
            break
        kinds.add(kind)
        block.append(line)
        end = place + 1 if is_sure or goes_on else end
    has_time = any(map(_CLOCK.search, block if has_line else block[1:2]))
    is_shaped = len(block) > 2 and has_time and (has_line or bool(_ADDRESS.search(block[0])))
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
        if not line or is_long or _QUOTED.match(line) or (said and _GOES_ON.search(line)):
            break
        said = f"{line} {said}".strip()
        has_clock = _CLOCK.search(said)
        if not has_clock and not _DAY.search(said):
            continue
        is_prose = sum(word[0].islower() and len(word) > 2 and "@" not in word for word in said.split()) > 3
        has_name = "@" in said or any(letter.isalpha() and not letter.islower() for letter in said)
        has_colon = not said.endswith(">")
        if is_quote and has_colon and has_name and ("@" in said or not is_prose or _SAID.search(said)):
            return number + 1 - place
        is_known = bool(_BEGINS.match(said) and _SAID.search(said))
        if is_quote and is_known:
            return number + 1 - place
        if has_clock and (is_last or place == first or not lines[place - 1].strip() or _is_quoted(lines, place - 1)):
            if (is_known or (has_colon and after > number + 1)) and not is_prose and _ADDRESS.search(said):
                return number + 1 - place
            if is_known and _SAID_LAST.search(said) and (is_last or "@" in said):
                return number + 1 - place
    return int(is_quote and len(end.split()) <= 8 and bool(_SAID.search(end)))


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
        return is_short and (line == "-- " or not after or _is_name(after[0]) or any(map(_CONTACT.search, after)))
    if _DEVICE.fullmatch(_LINK.sub("", line) if "http" in line else line):
        return not after
    if not _FORMULA.fullmatch(line) or not after or any(map(_is_sentence, after)):
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
        or (len(words) > 3 and 2 * lower > len(words) and not _CONTACT.search(line))
    )
