import re

import polars as pl
import pytest
from statsmodels.stats.proportion import proportion_confint

from assay.core.placeholders import PLACEHOLDER, placeholders
from assay.personal_data import pii_rules
from assay.personal_data.pii_benchmark import DECOY, SCRIPTS, Planted, plant, score, texts_by_script
from assay.statistics.intervals import wilson_estimate
from tests.own_cases import read_cases

CASES = read_cases(__file__)

HOSTS = pl.Series(
    "text",
    [
        "the battery lasts long, but it took two weeks to arrive",
        "I paid 20.00 and got 3 of them; why?",
        "love it :)",
        "RT @anonymous: 9 simple daily habits to ignite your passion <URL> via @anonymous",
        "my card was declined twice at the shop in the high street",
        "it works with windows 98, 2000 and xp",
        None,
        "one word more",
    ],
)
IN_OTHER_SCRIPTS = CASES["in_other_scripts"]
KINDS = ("email", "url", "secret", "url_credentials", "iban", "card", "national_number", "ip", "phone")


def redact(texts: pl.Series) -> pl.Series:
    for kind in ("url_credentials", "secret", "email", "url", "iban", "card", "national_number", "ip", "phone"):
        rule = getattr(pii_rules, f"redact_{kind}")
        texts = texts.to_frame("text").select(rule(pl.col("text"), numbered=False)).to_series()
    return texts


def test_values_are_where_they_are_said_to_be() -> None:
    planted = plant(HOSTS, 20, 7)
    assert sorted(set(planted.kinds)) == sorted([*KINDS, DECOY])
    assert [planted.kinds.count(kind) for kind in KINDS] == [20] * len(KINDS)
    assert planted.texts.len() == len(planted.kinds) == len(planted.starts) == len(planted.ends)
    for text, kind, start, end in zip(planted.texts, planted.kinds, planted.starts, planted.ends, strict=True):
        assert 0 <= start < end <= len(text)
        rest = text[:start] + text[end:]
        assert "<URL>" not in text  # a text with a placeholder is no host
        if kind == "email":
            assert "@" in text[start:end]
            assert "@" not in rest
        if kind == "ip":
            assert re.fullmatch(r"[0-9A-Fa-f:./]+", text[start:end])


def test_the_seed_decides() -> None:
    one, same, other = plant(HOSTS, 10, 7), plant(HOSTS, 10, 7), plant(HOSTS, 10, 2**63 + 5)
    assert one.texts.equals(same.texts)
    assert not one.texts.equals(other.texts)


def test_redaction_of_planted_values() -> None:
    scores = score(plant(HOSTS, 300, 20140601), redact)
    assert sorted(scores) == sorted(KINDS)
    for kind, least in dict.fromkeys(KINDS, 0.98).items():
        assert scores[kind]["planted"] == 300
        assert scores[kind]["recall"] >= (0.95 if kind == "phone" else least), kind
        assert scores[kind]["precision"] >= 0.98, kind
        assert list(scores[kind]["scripts"]) == ["latin"]


@pytest.mark.parametrize("script", IN_OTHER_SCRIPTS)
def test_redaction_of_values_planted_without_spaces_in_every_script(script: str) -> None:
    hosts = pl.Series([*HOSTS, *[IN_OTHER_SCRIPTS[script]] * 3])
    planted = plant(hosts, 150, 20140601)
    scores = score(planted, redact)
    for kind in KINDS:
        assert scores[kind]["scripts"][script]["planted"] == 150
        assert scores[kind]["scripts"][script]["recall"] >= 0.98, kind
        assert scores[kind]["precision"] >= 0.98, kind
    values = [text[start:end] for text, start, end in zip(planted.texts, planted.starts, planted.ends, strict=True)]
    glued = [text[start - 1 : start].isalpha() for text, start in zip(planted.texts, planted.starts, strict=True)]
    assert sum(glued) > 400
    if SCRIPTS[script].zero != "0":
        assert sum(SCRIPTS[script].zero in value for value in values) > 50


def test_texts_by_script() -> None:
    texts = pl.Series([*IN_OTHER_SCRIPTS.values(), "plain 漢字 and more", "ქართული", "12", "<URL> text", None])
    found = texts_by_script(texts)
    assert {name: found[name] for name in IN_OTHER_SCRIPTS} == {name: [text] for name, text in IN_OTHER_SCRIPTS.items()}
    assert found["latin"] == ["plain 漢字 and more", "12"]
    assert found["other"] == ["ქართული"]
    assert list(texts_by_script(pl.Series(["a"] * 1_000 + ["漢"]))) == ["latin"]  # too few


def test_what_takes_letters_of_the_text_with_it_does_not_count() -> None:
    planted = Planted(pl.Series(["找10.0.0.1吧"] * 2), ("ip", "ip"), (1, 1), (9, 9), ("han", "han"))
    scores = score(planted, lambda texts: pl.Series(["找<IP>吧", "<IP>吧"]))
    assert scores["ip"]["scripts"]["han"]["recall"] == scores["ip"]["recall"] == 0.5


def test_a_rule_that_does_nothing_scores_nothing() -> None:
    scores = score(plant(HOSTS, 10, 7), lambda texts: texts)
    assert {kind: (one["recall"], one["precision"]) for kind, one in scores.items()} == dict.fromkeys(KINDS, (0.0, 0.0))
    assert scores["card"]["precision_ci95_high"] == 1.0


@pytest.mark.parametrize(
    ("after", "recall", "precision"),
    [
        (["at <IP> now", "v 1.2.3.4", "a@b.cd"], 1.0, 1.0),
        (["at <IP_1> now", "v 1.2.3.4", "a@b.cd"], 1.0, 1.0),
        (["at <PHONE> now", "v 1.2.3.4", "a@b.cd"], 0.0, 0.0),
        (["at <IP>.1 now", "v 1.2.3.4", "a@b.cd"], 0.0, 1.0),
        (["at <IP> now", "v <IP>", "a@b.cd"], 1.0, 0.5),
        (["at <IP> now", "v <IP>", "<IP>"], 1.0, 1 / 3),
        (["at 10.0.0.1 now", "v 1.2.3.4", "a@b.cd"], 0.0, 0.0),
    ],
)
def test_score_of_known_outcomes(after: list[str], recall: float, precision: float) -> None:
    texts = pl.Series(["at 10.0.0.1 now", "v 1.2.3.4", "a@b.cd"])
    planted = Planted(texts, ("ip", DECOY, "email"), (3, 2, 0), (11, 9, 6), ("latin",) * 3)
    scores = score(planted, lambda texts: pl.Series(after))
    assert scores["ip"]["recall"] == recall
    assert scores["ip"]["precision"] == pytest.approx(precision)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 7), (199, 200), (1, 1)])
def test_interval_is_wilsons(hits: int, trials: int) -> None:
    found = wilson_estimate(hits, trials)
    expected = proportion_confint(hits, trials, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_placeholders() -> None:
    assert placeholders("", "EMAIL", False)("a") == "<EMAIL>"
    name_of = placeholders("<EMAIL_2> <CARD_7> <EMAIL>", "EMAIL", True)
    assert [name_of(value) for value in "aba"] == ["<EMAIL_3>", "<EMAIL_4>", "<EMAIL_3>"]
    assert re.findall(PLACEHOLDER, "<EMAIL> <IP_12> <3 <b> <URL_CREDENTIALS_1>") == [
        "<EMAIL>",
        "<IP_12>",
        "<URL_CREDENTIALS_1>",
    ]
