"""Real shapes of mail: what its writer wrote stays, what was quoted or signed goes."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cleaning.email_text import QUOTE_SIGNS, SIGNATURE_SIGNS, without_quotes, without_signature
from assay.cleaning.html_text import html_text

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
    ("forwarded", "See below.\n\nBegin forwarded message:\n\nFrom: x\nold", "See below.\n\nold"),
    ("german", "Danke!\n\nAm 3. März 2024 um 10:00 schrieb Support <a@b.de>:\n> alt\n> noch", "Danke!"),
    ("french", "Merci.\n\nLe 3 mars 2024 à 10:00, Support <a@b.fr> a écrit :\n> ancien", "Merci."),
    ("spanish", "Gracias.\n\nEl lun, 3 mar 2024 a las 10:00, Soporte escribió:\n> viejo", "Gracias."),
    ("dutch", "Bedankt.\n\nOp ma 3 mrt. 2024 om 10:00 schreef Support <a@b.nl>:\n> oud", "Bedankt."),
    ("italian", "Grazie.\n\nIl giorno lun 3 mar 2024 alle 10:00 Supporto <a@b.it> ha scritto:\n> vecchio", "Grazie."),
    ("CRLF", "Yes.\r\n\r\nOn Mon, 3 Mar 2024 at 10:00, S <s@x.org> wrote:\r\n> Did it work?\r\n", "Yes."),
    ("CRLF, outlook", "Yes.\r\n\r\n-----Original Message-----\r\nFrom: a\r\n\r\nold", "Yes."),
    ("ruler", "Blue.\n\n________________________________\nFrom: a\nSent: b\nTo: c\nSubject: d\n\nold", "Blue."),
    ("french headers", "Merci.\n\nDe : a\nEnvoyé : b\nÀ : c\nObjet : d\n\nancien", "Merci."),
    ("answer below", "On Mon, 3 Mar 2024 at 10:00, S <s@x.org> wrote:\n> Did it work?\n\nYes.", "Yes."),
    ("quote without signs", "Done.\nOn 3 March 2024 10:00, Jane wrote:", "Done."),
]

CASES = [json.loads(line) for line in Path(__file__).with_name("mails.jsonl").read_text(encoding="utf-8").splitlines()]
"""Mails as programs write them in many languages, with what is left of each."""

SIGNED = [
    ("delimiter", "My card is lost.\n-- \nJane Doe\nACME Ltd, +1 415 555 0132", "My card is lost."),
    ("closing formula", "My card is lost.\n\nBest regards,\nJane Doe\nACME Ltd\n", "My card is lost."),
    ("german", "Meine Karte ist weg.\n\nMit freundlichen Grüßen\nMax Muster", "Meine Karte ist weg."),
    ("french", "Ma carte est perdue.\n\nCordialement,\nJeanne", "Ma carte est perdue."),
    ("thanks", "Please call me.\nThanks,\nJane", "Please call me."),
    ("device", "ok, do it\n\nSent from my iPhone", "ok, do it"),
    ("german device", "gut\n\nVon meinem iPhone gesendet", "gut"),
    ("CRLF", "My card is lost.\r\n\r\nBest regards,\r\nJane\r\n", "My card is lost."),
    ("delimiter without its space", "My card is lost.\n--\nJane Doe\njane@acme.com", "My card is lost."),
    ("two formulas", "Card lost.\nThanks & Regards,\nJane van der Berg", "Card lost."),
    ("name in lower case", "Card lost.\nThank you,\njane", "Card lost."),
    ("app", "Card lost.\nSent from Yahoo Mail on Android", "Card lost."),
    ("operator", "Card lost.\nSent via BlackBerry by AT&T", "Card lost."),
    ("spanish", "Tarjeta perdida.\n\nUn saludo,\nJuan Pérez", "Tarjeta perdida."),
    ("dutch", "Kaart kwijt.\n\nMet vriendelijke groet,\nJan", "Kaart kwijt."),
    ("french device", "d'accord\nEnvoyé de mon iPhone", "d'accord"),
    ("portuguese", "Parou.\nAtenciosamente,\nAna", "Parou."),
    ("russian", "Нет.\nС уважением,\nИван Петров\n", "Нет."),  # noqa: RUF001
    ("polish device", "Nie.\nWysłano z iPhone\u2019a", "Nie."),
    ("japanese device", "はい。\niPhoneから送信", "はい。"),
    ("app of a kind", "Broken.\nSent with Proton Mail secure email.", "Broken."),
    ("link", "Broken.\n\nSent from Mail<https://go.x.org/fwlink/?LinkId=5> for Windows 10", "Broken."),
    (
        "long address",
        "Cancel.\n\nRegards\nJo Sample\nHead of Sales, Lamps Ltd, 12 Sample Street, Springfield, No 1234567",
        "Cancel.",
    ),
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
    "I paid a bill.\nSent from my bank account but not received",
    "I paid.\nSent from my phone and it never arrived",
    "Sent from my iPhone\nAlso my card is lost",
    "Hello\nThanks,\nmy card is lost\nplease help",
    "Hi,\nThanks\nI lost my card yesterday\nWhat should I do now?",
    "Hi\nThanks\nMY CARD IS LOST\nHELP ME",
    "Hi.\nThank you\nhelp",
    "apples\n--\npears\n--\nplums",
    "I want a trip.\nFrom: Berlin\nTo: Paris\nDate: 3 May\n2 adults please",
    "Last week was bad.\nOn Monday my manager wrote:\nplease ask support. So I do: how?",
    "The manual is wrong.\nOn page 5 the author wrote:\nplug it in first",
    "> 5 kg parcels cost more?\nI want to know.",
    "On 3 March 2026 at 10:15 your agent wrote:\nWe will refund you.\nNothing came.",
    "I wrote to help@example.com on 3 March 2026 at 10:12 and got this answer:\n\nno refund",
    "I wrote to <help@example.com> on 3 March 2026, 10:12, and they told me this:\n\nno refund",
    "My order of 03.03.2026, 10:12, contained:\n- a lamp\n- two bulbs",
    "Change my data.\nName: Pat Sample\nE-Mail: pat@x.org\nDate: 3 May 2026 10:12\nPhone: 020 7946 0958\nThat is all.",
    "Here is the log:\n\n2026-03-02 10:12:01 ERROR, failed <a@b.c>:\nline two",
    "Hello\n\nOn 2 March 2026 at 10:12 the courier rang:\nnobody was home",
    "I forwarded your message to my bank:\nthey know nothing of it",
    "First part\n-- original offer --\nI want the original offer back.",
    "It is not the original.\n--- original part ---\nbut a copy",
    "Meet Pat Sample <pat@example.org>\nthe lamp of 3 March 2026 10:12 is broken",
    "hi\n>_< so cute\n>:( and angry\n>= 5 of them\nbye",
    "Cheers",
]


MAILS = [
    (
        "Hi team,\r\n\r\nmy card ending in 1234 was declined at 14:30 in Rome.\r\n1) Is it blocked?\r\n"
        "2) Can you send a new one?\r\n\r\nKind regards,\r\n\r\nJane Doe\r\n"
        "Head of Purchasing | ACME Ltd\r\n+44 20 7946 0958\r\n\r\nFrom: Support <help@bank.example>\r\n"
        "Sent: Monday, March 4, 2024 9:12 AM\r\nTo: Jane Doe <jane@acme.example>\r\nSubject: RE: Card\r\n"
        "\r\nDear Jane,\r\nplease tell us more.\r\n",
        "Hi team,\n\nmy card ending in 1234 was declined at 14:30 in Rome.\n1) Is it blocked?\n"
        "2) Can you send a new one?",
    ),
    (
        "It works now, thank you!\n\nOn Tue, Mar 5, 2024 at 8:01 PM Support <\n"
        "help@bank.example> wrote:\n\n> Dear Jane,\n>\n> did you restart the app?\n> --\n> Support\n",
        "It works now, thank you!",
    ),
    (
        "On 05/03/2024 20:01, Support wrote:\n> Which phone do you have?\nAn old Nokia.\n"
        "> And which version?\n3.1, I think.\n\n-- \nJohn",
        "An old Nokia.\n3.1, I think.",
    ),
    (
        "FYI, see what they say about the fee.\n\n---------- Forwarded message ---------\n"
        "From: Bank <no-reply@bank.example>\nDate: Mon, 4 Mar 2024 at 09:12\nSubject: Your fee\n"
        "To: <jane@acme.example>\n\nThe fee is 1 EUR.",
        "FYI, see what they say about the fee.\n\nThe fee is 1 EUR.",
    ),
    (
        "please cancel my transfer asap\n\nSent from my Samsung Galaxy smartphone.\n\n"
        "-------- Original message --------\nFrom: Bank\nDate: 04/03/2024 09:12 (GMT+00:00)\n"
        "Subject: transfer\n\nWe have received it.",
        "please cancel my transfer asap",
    ),
    (
        "Sehr geehrte Damen und Herren,\n\nmeine Karte wurde gesperrt. Warum?\n\nMit freundlichen Grüßen\n"
        "Max Muster\nMusterstraße 1\n12345 Berlin\n\nVon: Bank <hilfe@bank.example>\n"
        "Gesendet: Montag, 4. März 2024 09:12\nAn: Max Muster\nBetreff: Karte\n\nGuten Tag",
        "Sehr geehrte Damen und Herren,\n\nmeine Karte wurde gesperrt. Warum?",
    ),
    (
        "Bonjour,\nmon virement n'est pas arrivé.\nBien cordialement,\nJeanne Dupont\n\n"
        "Le lun. 4 mars 2024 à 09:12, Banque <aide@banque.example> a écrit\u00a0:\n> Bonjour",
        "Bonjour,\nmon virement n'est pas arrivé.",
    ),
    (
        "Hola:\n¿por qué me cobran 1 €?\n\nAtentamente,\nJuan Pérez\n\nEnviado desde mi iPhone\n\n"
        "> El 4 mar 2024, a las 9:12, Banco <ayuda@banco.example> escribió:\n>\n> Hola Juan",
        "Hola:\n¿por qué me cobran 1 €?",
    ),
    (
        "Two things:\n- the app crashes\n- the fee is wrong\n\n"
        "Thanks for your help, I am waiting since Monday.\n\nCheers,\nBob",
        "Two things:\n- the app crashes\n- the fee is wrong\n\nThanks for your help, I am waiting since Monday.",
    ),
    (
        "From: Berlin\nTo: Paris\nWhen: 3 May, > 2 hours before noon\n\nThanks\nand please tell me the price as well",
        "From: Berlin\nTo: Paris\nWhen: 3 May, > 2 hours before noon\n\nThanks\nand please tell me the price as well",
    ),
]


@pytest.mark.parametrize(("before", "after"), MAILS)
def test_whole_mails(before: str, after: str) -> None:
    """As the chain of rules does it: again and again until nothing changes."""
    seen, now = None, before
    while now != seen:
        seen, now = now, without_signature(without_quotes(now))
    assert now == after


@pytest.mark.parametrize(("before", "after"), [case[1:] for case in QUOTED], ids=[case[0] for case in QUOTED])
def test_quoted_mail_goes(before: str, after: str) -> None:
    assert without_quotes(before) == after
    assert without_quotes(after) == after


@pytest.mark.parametrize(("before", "after"), [case[1:] for case in SIGNED], ids=[case[0] for case in SIGNED])
def test_signature_goes(before: str, after: str) -> None:
    assert without_signature(before) == after
    assert without_signature(after) == after


@pytest.mark.parametrize("case", CASES, ids=[case["mail"] for case in CASES])
def test_mails_of_many_programs(case: dict[str, str]) -> None:
    text = html_text(case["before"])
    assert without_quotes(text) == case["after"]
    assert without_quotes(case["after"]) == case["after"]
    assert case["after"] == text or pl.select(pl.lit(text).str.contains(QUOTE_SIGNS)).item()


PIECES = [
    *(
        "> old\n",
        ">> older\n",
        "new\n",
        "\n",
        "On 2 Mar 2026 10:12, S <s@x.org> wrote:\n",
        "S wrote:\n",
        "_" * 32 + "\n",
    ),
    *(
        "----- Forwarded message -----\n",
        "-----Original Message-----\n",
        "Begin forwarded message:\n",
        "From: S\n",
        " d;\n",
    ),
    *("Date: 2 Mar 2026 10:12\n", "Subject: h\n", "> From: S\n", "> 5 kg\n", "wrote:\n", "x: y@z.org\n"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=9).map("".join))
def test_twice_is_once(text: str) -> None:
    once = without_quotes(text)
    assert without_quotes(once) == once
    assert once == text or pl.select(pl.lit(text).str.contains(QUOTE_SIGNS)).item()


@pytest.mark.parametrize("before", [case[1] for case in QUOTED])
def test_the_gate_lets_quotes_through(before: str) -> None:
    assert pl.select(pl.lit(before).str.contains(QUOTE_SIGNS)).item()


@pytest.mark.parametrize("before", [case[1] for case in SIGNED])
def test_the_gate_lets_signatures_through(before: str) -> None:
    assert pl.select(pl.lit(before).str.contains(SIGNATURE_SIGNS)).item()


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_good_text_stays(text: str) -> None:
    assert without_quotes(text) == text
    assert without_signature(text) == text


@pytest.mark.slow
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
        "x\nSent from Mail" + "-A" * 500_000 + "!",
        "x\nThanks,\n" + "1 (" * 300_000,
        "best " * 100_000 + "\n" + "regards " * 100_000,
        "> Begin forwarded message:\n> From: a\n" * 30_000,
        "----- Forwarded message -----\n" * 30_000,
        "a: <b@c>, 10:12\n" * 60_000,
        "x 10:12 2026 <b@c>:\n" * 50_000,
        "-" * 1_000_000 + "\n>",
    ],
)
@pytest.mark.timeout(100)  # seconds; about one at most, quadratic would be minutes
def test_hostile_mail_ends_soon(text: str) -> None:
    without_signature(without_quotes(text))
