"""Real shapes of mail: what its writer wrote stays, what was quoted or signed goes."""

import time

import pytest

from stages.lib.mail_text import without_quotes, without_signature

QUOTED = [
    (
        "gmail",
        "My card is lost.\n\nOn Mon, 3 Mar 2024 at 10:00, Support <s@x.org> wrote:\n> Hello\n>\n> How are you?\n",
        "My card is lost.",
    ),
    (
        "broken announcement",
        "Yes.\nOn Monday, 3 March 2024, Jane Doe of the\nSupport Team wrote:\n> Did it work?",
        "Yes.",
    ),
    ("answers in between", "> Did you try?\nYes I did.\n> And?\nIt failed.", "Yes I did.\nIt failed."),
    (
        "outlook",
        "Thanks, that worked.\n\n-----Original Message-----\nFrom: a\nSent: b\nTo: c\nSubject: d\n\nold text",
        "Thanks, that worked.",
    ),
    (
        "outlook, headers alone",
        "It is blue.\n\nFrom: Support <s@x.org>\nSent: Monday, March 3, 2024 10:00\nTo: me\nSubject: colour\n\nWhich?",
        "It is blue.",
    ),
    ("forwarded", "See below.\n\nBegin forwarded message:\n\nFrom: x\nold", "See below."),
    ("german", "Danke!\n\nAm 3. März 2024 um 10:00 schrieb Support <a@b.de>:\n> alt\n> noch", "Danke!"),
    ("french", "Merci.\n\nLe 3 mars 2024 à 10:00, Support <a@b.fr> a écrit :\n> ancien", "Merci."),
    ("spanish", "Gracias.\n\nEl lun, 3 mar 2024 a las 10:00, Soporte escribió:\n> viejo", "Gracias."),
    ("dutch", "Bedankt.\n\nOp ma 3 mrt. 2024 om 10:00 schreef Support <a@b.nl>:\n> oud", "Bedankt."),
    ("italian", "Grazie.\n\nIl giorno lun 3 mar 2024 alle 10:00 Supporto <a@b.it> ha scritto:\n> vecchio", "Grazie."),
    ("quote without signs", "Done.\nOn 3 March 2024 10:00, Jane wrote:", "Done."),
]

SIGNED = [
    ("delimiter", "My card is lost.\n-- \nJane Doe\nACME Ltd, +1 415 555 0132", "My card is lost."),
    ("closing formula", "My card is lost.\n\nBest regards,\nJane Doe\nACME Ltd\n", "My card is lost."),
    ("german", "Meine Karte ist weg.\n\nMit freundlichen Grüßen\nMax Muster", "Meine Karte ist weg."),
    ("french", "Ma carte est perdue.\n\nCordialement,\nJeanne", "Ma carte est perdue."),
    ("thanks", "Please call me.\nThanks,\nJane", "Please call me."),
    ("device", "ok, do it\n\nSent from my iPhone", "ok, do it"),
    ("german device", "gut\n\nVon meinem iPhone gesendet", "gut"),
    ("french device", "d'accord\nEnvoyé de mon iPhone", "d'accord"),
]

LEFT_ALONE = [
    "> nothing\n> but a quote",
    "-- \nJane Doe",
    "Best regards,\nJane",
    "line one is 3 > 2\nand line two > one",
    "I wrote:\nplease help",
    "From: Berlin\nTo: Paris\nI need two tickets",
    "Best regards to the team for this great phone, it has been a pleasure and I will buy again\nThanks for all",
    "Thanks\nfor a phone that does all that I ever wanted a phone to do, and then some more of it besides",
    "It said\n--\nand then there was one more line of so many words that nobody would take it for a signature, nor "
    "should they, since it is the greater part of what was said",
    "good\nsent from heaven",
    "Cheers",
]


@pytest.mark.parametrize(("before", "after"), [case[1:] for case in QUOTED], ids=[case[0] for case in QUOTED])
def test_quoted_mail_goes(before: str, after: str) -> None:
    assert without_quotes(before) == after
    assert without_quotes(after) == after


@pytest.mark.parametrize(("before", "after"), [case[1:] for case in SIGNED], ids=[case[0] for case in SIGNED])
def test_signature_goes(before: str, after: str) -> None:
    assert without_signature(before) == after
    assert without_signature(after) == after


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_good_text_stays(text: str) -> None:
    assert without_quotes(text) == text
    assert without_signature(text) == text


@pytest.mark.parametrize(
    "text",
    [
        ">\n" * 300_000,
        "On " * 200_000 + "\nx",
        "\n" * 500_000,
        "From: a\n" * 100_000,
        "--\n" * 300_000,
        "On x " + "wrote " * 150_000 + "\n>",
        " " * 1_000_000 + "\n>x",
        "best " * 100_000 + "\n" + "regards " * 100_000,
    ],
)
def test_hostile_mail_ends_soon(text: str) -> None:
    started = time.monotonic()
    without_signature(without_quotes(text))
    assert time.monotonic() - started < 20  # quadratic would be minutes
