"""The text that a reader would see of a piece of HTML, by lexbor (selectolax), a maintained parser built for speed.

What looks like a tag and is none stays: `<3`, `a < b`, `List<int>`, `<user>`, `<EMAIL>`. A parser would recover from
those as a browser does, by eating them. So before it sees the text, a `<` is escaped unless it opens an element of HTML
with well-formed attributes or a comment that ends; and so is a `&` unless it begins an entity with its semicolon, since
`?a=1&copy=2` is an address and no copyright. Attributes say nothing about the text, and the parser's time grows with
the square of their number; so it gets to see the names of elements alone.

Elements that begin a line on a page (paragraphs, list items, line breaks) give a line end, table cells a space; inline
elements give nothing, so `<b>w</b>ord` is a word. Other white space stays as it is. A text that speaks of elements
(`Map<B>`, "write <b> for bold") loses them: nothing tells them from markup.
"""

import html
import re
from collections.abc import Mapping
from html.entities import html5

import polars as pl
from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_ROUNDS = 4
"""Markup that is escaped twice takes two rounds. Deeper nests are hostile, and left to the caller's next pass."""
MAX_DEPTH = 10_000
"""Elements open at once, roughly. The parser's time grows with the square of it; a deeper text has its tags cut out."""
MAX_PAGE_CHARACTERS = 100_000
"""To make a page costs the parser seven times what it costs to parse a short text into one that is there; but what it
parsed stays in memory as long as the page. So a page takes texts until it has seen this many characters."""
_HIDDEN = "script|style|template|title|noscript|iframe|noembed|noframes|svg"
_CELLS = "td|th"
_BLOCKS = (
    "address|article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|"
    "h[1-6]|head|header|hr|html|legend|li|main|marquee|nav|ol|optgroup|option|p|pre|section|select|summary|table|tbody|"
    "textarea|tfoot|thead|tr|ul"
)
_INLINE = (
    "a|abbr|acronym|audio|b|base|bdi|bdo|big|blink|button|canvas|cite|code|col|colgroup|data|datalist|del|details|dfn|"
    "dialog|em|embed|font|frame|frameset|i|img|input|ins|kbd|label|link|map|mark|meta|meter|nobr|object|output|param|"
    "picture|progress|q|rp|rt|ruby|s|samp|small|source|span|strike|strong|sub|sup|time|track|tt|u|var|video|wbr"
)
_OFFICE = "(?:o|v|w|m|st1):[a-z]+"
"""What Outlook and Word write among the elements of HTML."""

_BARE = (
    "allowfullscreen|async|autofocus|autoplay|checked|controls|default|defer|disabled|hidden|loop|multiple|muted|"
    "noshade|nowrap|open|readonly|required|reversed|selected"
)
# Possessive throughout: what an attribute has taken is not given back, so a failed match costs no second try.
_ATTRIBUTES = (
    r"(?:\s++(?:[A-Za-z_:@][\w:.\-]*+\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'<>=`]++)|(?:" + _BARE + r")\b))*+\s*+/?+"
)
_TAG = re.compile(
    r"<(?:(?P<comment>!--)|(?P<cdata>!\[CDATA\[)"
    rf"|(?P<gone>!doctype\b[^<>]*+|\?xml\b[^<>]*+|!\[(?:if\b[^<>]*+|endif\])|/?{_OFFICE}(?:{_ATTRIBUTES}))>"
    rf"|(?P<slash>/?)(?:(?P<hidden>{_HIDDEN})|(?P<block>{_BLOCKS})|(?P<cell>{_CELLS})|(?P<inline>{_INLINE}))"
    rf"(?:{_ATTRIBUTES})>)",
    re.IGNORECASE,
)
_TO_FILL_IN = re.compile(
    "<(?:address|audio|code|data|label|link|map|mark|object|output|source|summary|time|title|video)>", re.IGNORECASE
)
"""`See you at <time>, <address>`: without attributes and an end these are no markup but words that stand for others."""
_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0{0,4}38|#[xX]0{0,4}26);)++")
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BREAK = "\f"
"""Stands for the line end of a block until the text is out: white space, so that it may stand between table rows."""

MARKUP = (
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
    rf"|(?i-u:<(?:!--|!doctype|!\[|\?xml|/?{_OFFICE}|/?(?:{_HIDDEN}|{_BLOCKS}|{_CELLS}|{_INLINE})[\s/>]))"
)
"""What a text with markup has, as a regular expression of Rust's: a gate that lets some others through."""


def html_texts(texts: pl.Series) -> pl.Series:
    """`html_text` of each; a null stays null."""
    plain: list[str | None] = []
    page, seen = _new_page(), 0
    for text in texts:
        if seen > MAX_PAGE_CHARACTERS:
            page, seen = _new_page(), 0
        plain.append(None if text is None else _plain(text, page))
        seen += len(text or "")
    return pl.Series(texts.name, plain, dtype=pl.String)


def html_text(text: str) -> str:
    """The text without markup; entities become characters, also where they were escaped twice."""
    return _plain(text, _new_page())


def _new_page() -> LexborNode:
    """The body of an empty page, to parse texts into."""
    body = LexborHTMLParser("").body
    assert body is not None
    return body


def _plain(text: str, page: LexborNode) -> str:
    """`html_text`, parsed into a page."""
    for _ in range(MAX_ROUNDS):
        plain = _without_tags(text, page) if "<" in text else text
        if "&" in plain:
            plain = _ENTITY.sub(_character, _AMPERSANDS.sub("&", plain))
        if plain == text:
            break
        text = plain
    return text


def _character(entity: re.Match[str]) -> str:
    # html.unescape takes any name that begins with one of HTML 2, as in `&timestamp;`, for that one.
    return html.unescape(entity[0]) if entity[1][0] == "#" else html5.get(f"{entity[1]};", entity[0])


def _without_tags(text: str, page: LexborNode) -> str:
    """One round: tags, comments and what is not shown are gone, entities are as they were."""
    tags = list(_TAG.finditer(text))
    if not tags:
        return text
    closing = [tag for tag in tags if tag["slash"]]
    last_end = {(tag[tag.lastgroup or 0]).lower(): tag.start() for tag in closing}
    last_end["!--"] = text.rfind("-->")
    if len(tags) - 2 * len(closing) > MAX_DEPTH or len(tags) > 4 * MAX_DEPTH:
        return _with_line_ends(_cut_out(text, tags, last_end))
    pieces, end = [], 0
    for tag in tags:
        pieces += [_escaped(text[end : tag.start()]), _for_parser(tag, last_end)]
        end = tag.end()
    pieces.append(_escaped(text[end:]))
    page.inner_html = "".join(pieces)
    if any(tag.lastgroup == "hidden" for tag in tags):
        page.strip_tags(_HIDDEN.split("|"))
    plain = page.text()
    return _with_line_ends(plain.replace("]]>", "") if "<![CDATA[" in text else plain)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _is_text(tag: re.Match[str], last_end: Mapping[str, int]) -> bool:
    """Whether what was taken for a tag is none: a comment without its end, or a word to fill in."""
    if tag.lastgroup == "comment":
        return last_end["!--"] < tag.end()
    return bool(_TO_FILL_IN.fullmatch(tag[0])) and last_end.get(tag[tag.lastgroup or 0].lower(), -1) < tag.end()


def _hides(tag: re.Match[str], last_end: Mapping[str, int]) -> bool:
    """Whether what follows is not shown. Without its end, a parser would hide all that follows."""
    if tag.lastgroup != "hidden" or tag["slash"] or tag[0].endswith("/>"):
        return False
    return last_end.get(tag["hidden"].lower(), -1) >= tag.end()


def _for_parser(tag: re.Match[str], last_end: Mapping[str, int]) -> str:
    """What the parser gets to see for a tag; `last_end` is where the last end of each element and of comments is."""
    kind = tag.lastgroup
    if kind in ("gone", "cdata"):
        return ""
    if _is_text(tag, last_end):
        return _escaped(tag[0])
    if kind == "comment":
        return "<!--"
    if kind == "hidden" and not tag["slash"] and not _hides(tag, last_end):
        return ""
    before = {"block": _BREAK, "cell": "" if tag["slash"] else " "}.get(kind or "", "")
    return f"{before}<{tag['slash']}{tag[kind or 0].lower()}>"


def _cut_out(text: str, tags: list[re.Match[str]], last_end: Mapping[str, int]) -> str:
    """What the parser does, for texts that would take it too long: each tag is removed where it stands."""
    pieces: list[str] = []
    shown_from, hidden_by = 0, None
    for tag in tags:
        if tag.start() < shown_from:
            continue
        kind = tag.lastgroup or ""
        if hidden_by is not None:
            if tag["slash"] and tag[kind].lower() == hidden_by:
                shown_from, hidden_by = tag.end(), None
            continue
        if _is_text(tag, last_end):
            continue
        pieces += [text[shown_from : tag.start()], {"block": _BREAK, "cell": " "}.get(kind, "")]
        shown_from = text.find("-->", tag.end()) + 3 if kind == "comment" else tag.end()
        hidden_by = tag["hidden"].lower() if _hides(tag, last_end) else None
    return "".join([*pieces, text[shown_from:]])


def _with_line_ends(plain: str) -> str:
    """Text with one line end for each run of breaks and the white space around them, none at the ends."""
    if _BREAK not in plain:
        return plain
    # Not by a regular expression: it would try anew at every space of a long run.
    return "\n".join(filter(None, (line.strip(" \t\r\n") for line in plain.split(_BREAK))))
