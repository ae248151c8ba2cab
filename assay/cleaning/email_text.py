"""What of an e-mail its writer wrote: without quoted mails, and without the signature.

Line by line, each with patterns of bounded length, so the time is linear in the text. The maintained package for this,
mail-parser-reply 1.36, was tried: it took 9 s and 19 s for two hostile texts of 20 kB, took a review that ends in "Best
regards to the team for this great phone, …" for a signature, and left the questions of a mail answered line by line.

Where it is not clear that a line was not written for this mail, it stays: what is left too much is noise, what is taken
too much is lost. Where something is taken, line ends become `\\n`.
"""

import re

MAX_SIGNATURE_LINES = 10
MAX_SIGNATURE_LINE_CHARACTERS = 60
"""A longer line after a closing formula is a sentence that goes on."""

QUOTE_SIGNS = (
    r"(?i)\n[ \t]*>|^[ \t]*>|\b(?:wrote|schrieb|écrit|escribió|schreef|scritto|escreveu)\b|forwarded message|"
    r"original message|ursprüngliche nachricht|weitergeleitete nachricht|message d.origine|message transféré|"
    r"mensaje original|mensaje reenviado|oorspronkelijk bericht|messaggio originale|"
    r"(?:^|\n)[ \t*]*(?:from|von|de|van|da)[ \u00a0]?:"
)
"""A gate for `without_quotes`: what a text with quoted mail has, as a regular expression of Rust's."""

SIGNATURE_SIGNS = (
    r"(?i)(?:^|\n)[ \t]*(?:--[ \t\r]*(?:\n|$)|(?:all the )?best[ \t]*[,.!]?[ \t\r]*\n|diese nachricht wurde|von meine)|"
    r"\b(?:sent|get outlook|gesendet|envoyé|enviado|inviato|verstuurd|verzonden|regards|wishes|sincerely|thanks|"
    r"thank you|cheers|faithfully|truly|respectfully|grüßen|grüssen|grüße|grüsse|gruß|gruss|mfg|vg|lg|cordialement|"
    r"salutations|bien à vous|saludos?|atentamente|groet|groeten|saluti)\b"
)
"""The same for `without_signature`."""

_ANNOUNCEMENT = re.compile(
    r"[ \t>*]*(?:on|am|le|el|op|il|em)\b.{5,200}\b(?:wrote|schrieb\b.{0,80}|a écrit|escribió|schreef\b.{0,80}|"
    r"ha scritto|escreveu)[ \t\u00a0\u202f]?:[ \t*]*",
    re.IGNORECASE,
)
_CLOCK_OR_ADDRESS = re.compile(r"[0-9]{1,2}[:.h][0-9]{2}\b|\S@\S")
"""What every mail program writes into its announcement, and who only tells what somebody wrote mostly does not."""

_SEPARATOR = re.compile(
    r"[ \t>]*(?:-{2,}[ \t]*(?:original message|forwarded message|ursprüngliche nachricht|weitergeleitete nachricht|"
    r"message d.origine|message transféré|mensaje original|mensaje reenviado|oorspronkelijk bericht|"
    r"messaggio originale)[ \t]*-{2,}|begin forwarded message:)[ \t]*",
    re.IGNORECASE,
)
_HEADER_FROM = re.compile(r"[ \t*]*(?:from|von|de|van|da)[ \u00a0]?:[ \t*]*\S", re.IGNORECASE)
_HEADER_DATE = re.compile(
    r"[ \t*]*(?:sent|date|gesendet|datum|envoyé|enviado|fecha|verzonden|inviato|data)[ \u00a0]?:", re.IGNORECASE
)
# Without it, `From: Berlin`, `To: Paris`, `Date: 3 May` is what somebody asks for.
_HEADER_SUBJECT = re.compile(
    r"[ \t*]*(?:subject|betreff|objet|asunto|onderwerp|oggetto|assunto)[ \u00a0]?:", re.IGNORECASE
)
_RULER = re.compile(r"[ \t]*[_*=\-]{5,}[ \t]*")
_QUOTED = re.compile(r"[ \t]*>(?![:;=]|[._^\-]+<)")
"""A quoted line; `>:(`, `>_<` and `>= 5` begin none."""

_DEVICES = (
    r"(?:iphone|ipad|ipod|android|galaxy|samsung|huawei|xiaomi|redmi|pixel|nokia|oneplus|blackberry|windows|mobile|"
    r"phone|handy|téléphone|teléfono|móvil|smartphone|cellphone|tablet|mac|macbook|outlook|mail|yahoo|gmail|proton|"
    r"protonmail|aol|gmx)"
)
_DEVICE = re.compile(
    # After the device come its names and numbers, but no sentence that goes on.
    rf"[ \t]*(?:sent (?:from|via|using|with) (?:my |the )?(?:(?-i:[A-Z])[\w&\-]{{1,15}} ){{0,3}}{_DEVICES}\b"
    r"(?:[ \-,]{1,2}+(?:(?-i:[A-Z0-9])[\w&.+\-]{0,15}+|for|on|by|from|via|with|my|app|phone|device|mobile|mail|"
    r"smartphone)){0,8}+"
    rf"|get outlook for [\w ]{{2,20}}|(?:diese nachricht wurde )?von meine[mr] .{{0,30}}{_DEVICES}.{{0,30}}gesendet"
    rf"|(?:gesendet (?:von|mit|aus)|envoyé (?:de|depuis|à partir)|enviado (?:desde|do|a partir)|inviato (?:da|dal)|"
    rf"(?:verstuurd|verzonden) (?:vanaf|vanuit|met))\b.{{0,25}}{_DEVICES}\b[\w \-]{{0,15}})[ \t.]*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"[ \t]*(?:(?:(?:with|mit|best|kind|kindest|warm|warmest|many|my|our|and|&|thanks|freundliche[nm]?|viele|liebe|"
    r"beste|schöne|herzliche|bien|très|met|vriendelijke|hartelijke|cordiali|distinti|un|cordial) ){0,5}"
    r"(?:regards|wishes|thanks|grüßen|grüssen|grüße|grüsse|gruß|gruss|cordialement|salutations|saludos?|groet|groeten|"
    r"saluti)|bien à vous|atentamente|(?:all the )?best|(?:yours )?(?:sincerely|faithfully|truly|respectfully)|"
    r"(?:sincerely|faithfully|truly) yours|"
    r"thanks(?: again| in advance| so much)?|thank you(?: very much| so much| in advance)?|cheers|mfg|vg|lg)"
    r"[ \t]*[,.!]?[ \t]*",
    re.IGNORECASE,
)
_CONTACT = re.compile(r"\S@\S|www\.|https?:|[0-9][0-9 ()/.\-]{4,}[0-9]")
_PARTICLES = frozenset(
    ["al", "and", "bin", "da", "de", "den", "der", "di", "la", "le", "of", "ter", "the", "van", "von"]
)


def without_quotes(text: str) -> str:
    """A text of several lines without the mails that it quotes; itself, if nothing else would be left."""
    lines = text.replace("\r\n", "\n").split("\n")
    kept: list[str] = []
    number = 0
    while number < len(lines):
        if _begins_the_rest(lines, number):
            break
        announced = _announcement_lines(lines, number)
        following = number + announced
        is_quote = announced and bool(_QUOTED.match(_first_with_text(lines, following)))
        if announced and not is_quote and _CLOCK_OR_ADDRESS.search(" ".join(lines[number:following])):
            break
        if is_quote:
            number = following
            continue
        if not _QUOTED.match(lines[number]):
            kept.append(lines[number])
        number += 1
    if len(kept) == len(lines):
        return text
    while number < len(lines) and kept and (not kept[-1].strip() or _RULER.fullmatch(kept[-1])):
        kept.pop()
    left = "\n".join(kept).strip("\n").rstrip()
    return left if left.strip() else text


def _begins_the_rest(lines: list[str], number: int) -> bool:
    """Whether all from this line on is another mail: after a separator, or a block of its headers."""
    if _SEPARATOR.fullmatch(lines[number]):
        return True
    if not _HEADER_FROM.match(lines[number]):
        return False
    block = lines[number + 1 : number + 6]
    return any(map(_HEADER_DATE.match, block)) and any(map(_HEADER_SUBJECT.match, block))


def _announcement_lines(lines: list[str], number: int) -> int:
    """How many lines from this one on say who wrote what follows: none, one, or two where the line is broken."""
    if _ANNOUNCEMENT.fullmatch(lines[number]):
        return 1
    broken = " ".join(lines[number : number + 2])
    return 2 if len(broken) < 300 and number + 1 < len(lines) and _ANNOUNCEMENT.fullmatch(broken) else 0


def _first_with_text(lines: list[str], number: int) -> str:
    return next((line for line in lines[number : number + 4] if line.strip()), "")


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
    if _DEVICE.fullmatch(line):
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
    return (
        len(line) > MAX_SIGNATURE_LINE_CHARACTERS
        or line.endswith(("?", "!"))
        or (len(words) > 3 and 2 * lower > len(words) and not _CONTACT.search(line))
    )
