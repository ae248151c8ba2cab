"""The text that a reader would see of a piece of HTML; what is not shown is found by lexbor (selectolax), a parser.

docs/cleaning.md says what becomes of what. A parser alone would recover from `a < b`, `List<int>` and `<EMAIL>` as a
browser does, by eating them. So a tag is what opens or ends an element of HTML with well-formed attributes, and is not
code by Markdown's backticks; and an entity is what has its semicolon, since `?a=1&copy=2` is an address. The parser
sees scripts and comments, and text alone of all else, so its time is linear.

Elements that begin a line on a page give a line end, table cells a space; inline elements give nothing, so
`<b>w</b>ord` is a word. Other white space stays. Entities are decoded last, and once, so this runs once on a text.
"""

import html
import re
from collections.abc import Mapping
from html.entities import html5
from pathlib import Path

import yaml
from selectolax.lexbor import LexborHTMLParser

from assay.core.patterns import fill_patterns

MAX_HIDDEN = 10_000
"""Elements that are not shown. The parser's time grows with the square of their depth; of more, the text is shown."""
_NAMES = yaml.safe_load(Path(__file__).with_name("html_elements.yaml").read_text(encoding="utf-8"))
_ELEMENTS = {kind: "|".join(names) for kind, names in _NAMES.items()}
_BREAK = "\f"
"""Stands for the line end of a block until the text is out: white space, so that it may stand between table rows."""
_QUOTE, _QUOTE_END, _RAISED, _RAISED_END = "\f\x10\f", "\f\x11\f", "\x0e", "\x0f"
"""Stand for the ends of a quote, and of what is raised, as `_BREAK` does."""
_PATTERNS = fill_patterns(
    yaml.safe_load(Path(__file__).with_name("html_patterns.yaml").read_text(encoding="utf-8")),
    _ELEMENTS | {"raised": _RAISED, "raised_end": _RAISED_END},
)
MARKUP = _PATTERNS["markup"]
"""What a text with markup has, as a regular expression of Rust's: a gate that lets some others through."""
_RE = {name: re.compile(_PATTERNS[name]) for name in _PATTERNS if name != "markup"}


def html_text(text: str) -> str:
    """The text without markup; entities become characters."""
    plain = _without_tags(text) if "<" in text else text
    if "&" in plain:
        plain = _RE["entity"].sub(_character, _RE["ampersands"].sub("&", plain) if plain == text else plain)
    if _RAISED in plain:
        plain = _RE["exponent"].sub(lambda power: f"^{power[1] or f'({power[2]})'}", plain)
        plain = plain.replace(_RAISED, "").replace(_RAISED_END, "")
    return plain


def _character(entity: re.Match[str]) -> str:
    # html.unescape takes any name that begins with one of HTML 2, as in `&timestamp;`, for that one.
    return html.unescape(entity[0]) if entity[1][0] == "#" else html5.get(f"{entity[1]};", entity[0])


def _without_tags(text: str) -> str:
    """Tags, comments and what is not shown are gone, entities are as they were."""
    # What is code has no tags, and all else keeps its place.
    seen = _RE["code"].sub(lambda code: "`" * len(code[0]), text) if "`" in text else text
    tags = list(_RE["tag"].finditer(seen))
    if not tags or (seen[: tags[0].start()].strip() and all(_RE["word"].fullmatch(tag[0]) for tag in tags)):
        return text
    last_end = {(tag[tag.lastgroup or 0]).lower(): tag.start() for tag in tags if tag["slash"]}
    last_end["!--"] = seen.rfind("-->")
    hidden = sum(tag.lastgroup == "hidden" for tag in tags)
    has_unseen = hidden or "<!--" in seen
    boxes = list[bool]() if _RE["quote_box"].search(text) else None
    escaped = _escaped if has_unseen else str
    pieces, end = [], 0
    for tag in tags:
        if _is_text(tag, last_end):
            shown = escaped(tag[0])
        elif tag.lastgroup == "comment":
            shown = "<!--"
        elif tag.lastgroup == "hidden":
            shown = f"<{tag['slash']}{tag['hidden']}>" if hidden <= MAX_HIDDEN and _hides(tag, last_end) else ""
        else:
            shown = escaped(_shown(text, tag, boxes))
        pieces += [escaped(text[end : tag.start()]), shown]
        end = tag.end()
    plain = "".join([*pieces, escaped(text[end:])])
    if has_unseen:
        page = LexborHTMLParser(f"<body>{plain}")
        page.strip_tags(_NAMES["hidden"])
        plain = page.body.text() if page.body else ""
    return _with_line_ends(plain.replace("]]>", "") if "<![CDATA[" in text else plain)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _is_text(tag: re.Match[str], last_end: Mapping[str, int]) -> bool:
    """Whether what was taken for a tag is none: a comment without its end (the last one in `last_end`), or a word."""
    if tag.lastgroup == "comment":
        return last_end["!--"] < tag.end()
    return bool(_RE["to_fill_in"].fullmatch(tag[0])) and last_end.get(tag[tag.lastgroup or 0].lower(), -1) < tag.end()


def _hides(tag: re.Match[str], last_end: Mapping[str, int]) -> bool:
    """Whether what follows, or ends here, is not shown. Without its end, a parser would hide all that follows."""
    return bool(tag["slash"]) or (not tag[0].endswith("/>") and last_end.get(tag["hidden"].lower(), -1) >= tag.end())


def _shown(text: str, tag: re.Match[str], boxes: list[bool] | None) -> str:
    """What a reader sees in the place of a tag, with marks for quotes and for what is raised.

    `boxes` says of each `div` that is open whether it is a quote; None where none is.
    """
    kind, is_end = tag.lastgroup or "", bool(tag["slash"])
    name = tag[kind].lower()
    if name == "sup":
        return _RAISED_END if is_end else _RAISED
    if name == "img":
        return _name_of_image(text, tag)
    if name == "blockquote":
        return _QUOTE_END if is_end else _QUOTE
    if name == "div" and "divRplyFwdMsg" in tag[0]:
        return f"{_BREAK}{'_' * 32}{_BREAK}"  # the line by which Outlook sets off the mail that is answered
    if name == "div" and boxes is not None:
        if not is_end:
            boxes.append(bool(_RE["quote_box"].search(tag[0])) and not _RE["forwarded"].match(text, tag.end()))
            return _QUOTE if boxes[-1] else _BREAK
        return _QUOTE_END if boxes and boxes.pop() else _BREAK
    return _BREAK if kind in ("block", "xml") else " " if kind == "cell" and not is_end else ""


def _name_of_image(text: str, tag: re.Match[str]) -> str:
    """Its `alt` or else its `title`, apart from the words beside it; nothing if that is the name of a file."""
    names = {bool(found["alt"]): found[2] or found[3] or found[4] or "" for found in _RE["named"].finditer(tag[0])}
    name = names.get(True, names.get(False, "")).strip()
    if not name or _RE["file"].fullmatch(name):
        return ""
    is_word = name[0].isalnum()
    before, after = text[max(0, tag.start() - 1) : tag.start()], text[tag.end() : tag.end() + 1]
    return f"{' ' * (is_word and before.isalnum())}{name}{' ' * (is_word and after.isalnum())}"


def _with_line_ends(plain: str) -> str:
    """Text with one line end for each run of breaks and the white space around them, none at the ends."""
    if _BREAK not in plain:
        return plain
    # Not by a regular expression: it would try anew at every space of a long run.
    lines = filter(None, (line.strip(" \t\r\n") for line in plain.split(_BREAK)))
    if _QUOTE not in plain:
        return "\n".join(lines)
    depth, marked = 0, list[str]()
    for line in lines:
        if line in _QUOTE + _QUOTE_END:
            depth = max(0, depth + (1 if line in _QUOTE else -1))
        else:
            marked.append("> " + line.replace("\n", "\n> ") if depth else line)
    return "\n".join(marked)
