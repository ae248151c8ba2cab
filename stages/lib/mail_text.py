"""What of an e-mail its writer wrote: without quoted mails, and without the signature.

Line by line, each with patterns of bounded length, so the time is linear in the text. The maintained package for this,
mail-parser-reply 1.36, was tried: it took 9 s and 19 s for two hostile texts of 20 kB, took a review that ends in "Best
regards to the team for this great phone, …" for a signature, and left the questions of a mail answered line by line.
"""

import re

MAX_SIGNATURE_LINES = 10
MAX_SIGNATURE_LINE_CHARACTERS = 60
"""A longer line after a closing formula is a sentence that goes on."""

QUOTE_SIGNS = (
    r"(?i)\n[ \t]*>|^[ \t]*>|\b(?:wrote|schrieb|écrit|escribió|schreef|scritto|escreveu)\b|forwarded message|"
    r"original message|ursprüngliche nachricht|message d.origine|mensaje original|oorspronkelijk bericht|"
    r"messaggio originale|(?:^|\n)[ \t*]*(?:from|von|de|van|da):"
)
"""A gate for `without_quotes`: what a text with quoted mail has, as a regular expression of Rust's."""

SIGNATURE_SIGNS = (
    r"(?i)(?:^|\n)[ \t]*(?:--[ \t]*(?:\n|$)|sent from|get outlook|von meinem|gesendet|envoyé|enviado|inviato|verstuurd|"
    r"verzonden|[a-z ]*(?:regards|wishes|sincerely|thanks|thank you|cheers|faithfully|truly|grüßen|grüße|gruß|"
    r"cordialement|salutations|saludos|groet|groeten|saluti)\b)"
)
"""The same for `without_signature`."""

_ANNOUNCEMENT = re.compile(
    r"[ \t>*]*(?:on|am|le|el|op|il|em)\b.{5,200}\b(?:wrote|schrieb\b.{0,80}|a écrit|escribió|schreef\b.{0,80}|"
    r"ha scritto|escreveu)[ \t]?:[ \t*]*",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(
    r"[ \t>]*(?:-{2,}[ \t]*(?:original message|forwarded message|ursprüngliche nachricht|weitergeleitete nachricht|"
    r"message d.origine|message transféré|mensaje original|mensaje reenviado|oorspronkelijk bericht|"
    r"messaggio originale)[ \t]*-{2,}|begin forwarded message:)[ \t]*",
    re.IGNORECASE,
)
_HEADER_FROM = re.compile(r"[ \t*]*(?:from|von|de|van|da):[ \t*]*\S", re.IGNORECASE)
_HEADER_DATE = re.compile(
    r"[ \t*]*(?:sent|date|gesendet|datum|envoyé|enviado|fecha|verzonden|inviato|data) ?:", re.IGNORECASE
)
_HEADER_TO = re.compile(
    r"[ \t*]*(?:to|an|à|para|aan|a|subject|betreff|objet|asunto|onderwerp|oggetto|assunto) ?:", re.IGNORECASE
)
_QUOTED = re.compile(r"[ \t]*>")

_DEVICE = re.compile(
    r"[ \t]*(?:sent from (?:my|the|mail|outlook|yahoo|samsung|proton)\b.{0,60}|get outlook for .{0,40}|"
    r"von meinem .{0,40}gesendet.{0,10}|gesendet (?:von|mit|aus) .{0,50}|envoyé (?:de|depuis|à partir) .{0,60}|"
    r"enviado (?:desde|do|a partir) .{0,60}|inviato (?:da|dal) .{0,60}|"
    r"(?:verstuurd|verzonden) (?:vanaf|vanuit|met) .{0,60})",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"[ \t]*(?:(?:with |mit )?(?:best|kind|kindest|warm|warmest|many|my|freundlichen?|viele|liebe|beste|bien|met|"
    r"cordiali|distinti|un)?(?: vriendelijke| cordial| and| best| kind| warm)*[ \t]?"
    r"(?:regards|wishes|thanks|grüßen|grüße|gruß|cordialement|salutations|saludo|saludos|groet|groeten|saluti)|"
    r"best|all the best|(?:yours )?(?:sincerely|faithfully|truly)(?: yours)?|thanks(?: again| in advance| so much)?|"
    r"thank you(?: very much| in advance)?|cheers|mfg|lg)[ \t]*[,.!]?[ \t]*",
    re.IGNORECASE,
)


def without_quotes(text: str) -> str:
    """A text of several lines without the mails that it quotes; itself, if nothing else would be left."""
    lines = text.split("\n")
    kept: list[str] = []
    number = 0
    while number < len(lines):
        if _begins_the_rest(lines, number):
            break
        announced = _announcement_lines(lines, number)
        following = number + announced
        if announced and (following == len(lines) or not _QUOTED.match(_first_with_text(lines, following))):
            break
        if announced:
            number = following
            continue
        if not _QUOTED.match(lines[number]):
            kept.append(lines[number])
        number += 1
    left = "\n".join(kept).rstrip()
    if len(kept) == len(lines) or not left.strip():
        return text
    return left


def _begins_the_rest(lines: list[str], number: int) -> bool:
    """Whether all from this line on is another mail: after a separator, or a block of its headers."""
    if _SEPARATOR.fullmatch(lines[number]):
        return True
    if not _HEADER_FROM.match(lines[number]):
        return False
    block = lines[number + 1 : number + 6]
    return any(map(_HEADER_DATE.match, block)) and any(map(_HEADER_TO.match, block))


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
    lines = text.rstrip().split("\n")
    tail = range(len(lines) - 1, max(0, len(lines) - 1 - MAX_SIGNATURE_LINES), -1)
    cut = next((number for number in tail if _begins_a_signature(lines, number)), None)
    if cut is None:
        return text
    left = "\n".join(lines[:cut]).rstrip()
    return left if left.strip() else text


def _begins_a_signature(lines: list[str], number: int) -> bool:
    line = lines[number]
    after = [one for one in lines[number + 1 :] if one.strip()]
    if line.rstrip() == "--":
        return all(len(one) <= 2 * MAX_SIGNATURE_LINE_CHARACTERS for one in after)
    if _DEVICE.fullmatch(line):
        return len(after) <= 2
    return (
        bool(_FORMULA.fullmatch(line))
        and 1 <= len(after) <= MAX_SIGNATURE_LINES
        and all(len(one) <= MAX_SIGNATURE_LINE_CHARACTERS for one in after)
    )
