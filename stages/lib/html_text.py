"""The text that a reader would see of a piece of HTML, by lexbor (selectolax), a maintained parser built for speed.

What looks like a tag and is none stays: `<3`, `a < b`, `List<int>`, `<user>`, `<EMAIL>`. A parser would recover from
those as a browser does, by eating them. So before it sees the text, a `<` is escaped unless it opens an element of HTML
with well-formed attributes or a comment that ends; and so is a `&` unless it begins an entity with its semicolon, since
`?a=1&copy=2` is an address and no copyright.

Elements that begin a line on a page (paragraphs, list items, line breaks) give a line end, table cells a space; inline
elements give nothing, so `<b>w</b>ord` is a word. Other white space stays as it is.
"""

import html
import re

from selectolax.lexbor import LexborHTMLParser

MAX_ROUNDS = 4
"""Markup that is escaped twice takes two rounds. Deeper nests are hostile, and left to the caller's next pass."""

MAX_DEPTH = 10_000
"""Elements open at once, roughly. The parser's time grows with the square of it; a deeper text has its tags cut out."""

_UNSHOWN = "script|style|template|title|noscript|iframe|noembed|noframes"
_CELLS = "td|th"
_BLOCKS = (
    "address|article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|"
    "h[1-6]|head|header|hr|html|legend|li|main|nav|ol|optgroup|option|p|pre|section|select|summary|table|tbody|"
    "textarea|tfoot|thead|tr|ul"
)
_INLINE = (
    "a|abbr|acronym|audio|b|base|bdi|bdo|big|button|canvas|cite|code|col|colgroup|data|datalist|del|details|dfn|dialog|"
    "em|embed|font|frame|frameset|i|img|input|ins|kbd|label|link|map|mark|meta|meter|nobr|object|output|param|picture|"
    "progress|q|rp|rt|ruby|s|samp|small|source|span|strike|strong|sub|sup|svg|time|track|tt|u|var|video|wbr"
)
_BARE = (
    "allowfullscreen|async|autofocus|autoplay|checked|controls|default|defer|disabled|hidden|loop|multiple|muted|"
    "noshade|nowrap|open|readonly|required|reversed|selected"
)
# Possessive throughout: what an attribute has taken is not given back, so a failed match costs no second try.
_ATTRIBUTES = (
    r"(?:\s++(?:[A-Za-z_:@][\w:.\-]*+\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'<>=`]++)|(?:" + _BARE + r")\b))*+\s*+/?+"
)
_OPENING = re.compile(
    rf"<(?:(?P<comment>!--)|!doctype\b[^<>]*+>|/?(?:(?P<unshown>{_UNSHOWN})|(?P<block>{_BLOCKS})|(?P<cell>(?<!/)(?:{_CELLS}))|{_CELLS}|"
    rf"{_INLINE})(?:{_ATTRIBUTES})>|(?P<cdata>!\[CDATA\[))",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ESCAPED_ENTITY = re.compile(
    r"&(?:(?:amp|#38|#[xX]26);)++(?=(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)"
)
_BREAK = "\f"
"""Stands for the line end of a block until the text is out: white space, so that it may stand between table rows."""
_AROUND_BREAKS = re.compile(rf"[ \t\r\n]*{_BREAK}[ \t\r\n{_BREAK}]*")

MARKUP = (
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
    rf"|(?i-u:<(?:!--|!doctype|!\[CDATA\[|/?(?:{_UNSHOWN}|{_BLOCKS}|{_CELLS}|{_INLINE})[\s/>]))"
)
"""What a text with markup has, as a regular expression of Rust's: a gate that lets some others through."""


def html_text(text: str) -> str:
    """The text without markup; entities become characters, also where they were escaped twice."""
    for _ in range(MAX_ROUNDS):
        plain = _without_tags(text) if "<" in text else text
        plain = _ESCAPED_ENTITY.sub("&", plain)
        plain = _ENTITY.sub(_character, plain)
        if plain == text or ("<" not in plain and "&" not in plain):
            return plain
        text = plain
    return text


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity.group())


def _without_tags(text: str) -> str:
    """One round: tags, comments and what is not shown are gone, entities are as they were."""
    tags = list(_OPENING.finditer(text))
    if not tags:
        return text
    closing = sum(tag.group().startswith("</") for tag in tags)
    # Of ASCII alone, so that every character keeps its place.
    lower = text.encode().lower().decode()
    last_end = {name: lower.rfind(f"</{name}") for name in _UNSHOWN.split("|")} | {"!--": lower.rfind("-->")}
    if len(tags) - 2 * closing > MAX_DEPTH or len(tags) > 4 * MAX_DEPTH:
        return _with_line_ends(_cut_out(text, lower, tags, last_end))
    pieces: list[str] = ["<body>"]
    end = 0
    for tag in tags:
        pieces += [_escaped(text[end : tag.start()]), _for_parser(tag, last_end)]
        end = tag.end()
    parser = LexborHTMLParser("".join([*pieces, _escaped(text[end:])]))
    parser.strip_tags(_UNSHOWN.split("|"))
    plain = parser.body.text() if parser.body else ""
    return _with_line_ends(plain.replace("]]>", "") if "<![CDATA[" in text else plain)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _for_parser(tag: re.Match[str], last_end: dict[str, int]) -> str:
    """What the parser gets to see for a tag.

    Args:
        tag: match of `_OPENING`.
        last_end: where the last end of each kind of hidden content is.
    """
    kind, written = tag.lastgroup, tag.group()
    if kind == "block":
        return _BREAK + written
    if kind == "cell":
        return " " + written
    if kind == "cdata":
        return ""
    # Without its end, the parser would hide all that follows.
    if kind is None or written.startswith("</") or last_end[tag[kind].lower()] >= tag.end():
        return written
    return "&lt;!--" if kind == "comment" else ""


def _cut_out(text: str, lower: str, tags: list[re.Match[str]], last_end: dict[str, int]) -> str:
    """What the parser does, for texts that would take it too long: each tag is taken out where it stands."""
    pieces: list[str] = []
    shown_from = 0
    for tag in tags:
        if tag.start() < shown_from:
            continue
        pieces += [text[shown_from : tag.start()], {"block": _BREAK, "cell": " "}.get(tag.lastgroup or "", "")]
        shown_from = tag.end()
        if tag.lastgroup in ("unshown", "comment") and not tag.group().startswith("</"):
            name = tag[tag.lastgroup].lower()
            if last_end[name] >= tag.end():
                shown_from = lower.find("-->", tag.end()) + 3 if name == "!--" else lower.find(f"</{name}", tag.end())
            elif name == "!--":
                pieces.append(tag.group())
    return "".join([*pieces, text[shown_from:]])


def _with_line_ends(plain: str) -> str:
    """Text with one line end for each run of breaks, none at the ends."""
    return _AROUND_BREAKS.sub("\n", plain).strip("\n") if _BREAK in plain else plain
