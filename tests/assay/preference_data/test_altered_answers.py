import re

import numpy as np
import pytest

from assay.preference_data.altered_answers import LEAST_RATIO, RULES, alter_answer, find_alterations


def changed(answer: str, seed: int = 0) -> set[tuple[str, str, str]]:
    return {(one.kind, one.before, one.after) for one in find_alterations(answer, np.random.default_rng(seed))}


def befores(answer: str) -> set[tuple[str, str]]:
    return {(kind, before) for kind, before, _ in changed(answer)}


@pytest.mark.parametrize(
    ("answer", "before"),
    [
        ("The fee: 25,000-50,000 SEK per house.", "25,000-50,000 SEK"),
        ("Costs 600–1,400 SEK/m² in Skåne.", "600–1,400 SEK/m²"),
        ("At least 0.9 m high.", "0.9 m"),
        ("A reduction of 30% on labour.", "30%"),
        ("The statutory time: 10 weeks.", "10 weeks."),
        ("Within 3 to 6 months.", "3 to 6 months."),
        ("Between 15 and 20 years.", "15 and 20 years."),
        ("A 10-year warranty.", "10-year"),
        ("For more than 20 people.", "20 people."),
        ("Drawings of all 4 facades.", "4 facades."),
        ("ROT 50,000 SEK per year.", "50,000 SEK"),
        ("It costs €500 a day.", "500 a"),
        ("A slope of 22–45° works.", "22–45°"),
        ("Valid for five years.", "five years."),
    ],
)
def test_a_quantity_becomes_another_by_much(answer: str, before: str) -> None:
    for seed in range(20):
        found = [one for one in find_alterations(answer, np.random.default_rng(seed)) if one.kind == "number"]
        assert [one.before for one in found] == [before]
        assert found[0].after != before
        assert found[0].text == answer.replace(before, found[0].after)
        old, new = (
            [float(part.replace(",", "")) for part in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]
            for text in (before, found[0].after)
        )
        assert all(max(a, b) >= LEAST_RATIO * min(a, b) > 0 for a, b in zip(old, new, strict=True))
        assert new == sorted(new)


def test_a_number_keeps_how_it_is_written() -> None:
    for seed in range(30):
        values = {kind: after for kind, _, after in changed("It takes 10 weeks, 30% of 29,400 SEK or 0.35 l/s", seed)}
        assert "1 weeks" not in values.values()
    shares = {after for seed in range(40) for _, before, after in changed("A share of 60%.", seed) if "%" in before}
    assert shares
    assert all(float(after.rstrip("%.")) <= 100 for after in shares)
    decimals = {after for seed in range(40) for _, _, after in changed("At most 4.0 m.", seed)}
    assert all(after.split(" ")[0].partition(".")[2].isdigit() for after in decimals)


@pytest.mark.parametrize(
    "answer",
    [
        "Per PBL 9 kap. 27 §.",
        "See AB 04 chapter 7 § 3.",
        "AFS 2006:1 and AFS 1999:3.",
        "Under the Work Environment Act 5 kap.",
        "Drawn 1:400 or 1:100.",
        "ID06, EI60, B2B, CO2 and class P3.",
        "By ABS 18 clause 2.",
        "BBR 29 (BFS 2011:6).",
        "Miljöbalken 32 kap. 1 §, and ISO 9001.",
        "A friendly word for everybody.",
        "",
    ],
)
def test_what_points_to_a_text_is_left_alone(answer: str) -> None:
    assert changed(answer) == set()


@pytest.mark.parametrize(
    ("answer", "before"),
    [
        ("Allowed since 2020 here.", "2020 here."),
        ("Up to 580,000 SEK in 2026.", "2026."),
        ("From 1 October to spring.", "October to"),
        ("By 3 May.", "May."),
        ("Open on Mondays.", "Mondays."),
        ("The rules of July 2024.", "2024."),
    ],
)
def test_a_date_becomes_another(answer: str, before: str) -> None:
    assert ("date", before) in befores(answer)
    for seed in range(10):
        assert all(before != after for _, before, after in changed(answer, seed))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Yes, for a shed.", "No, for a shed."),
        ("No, it costs more.", "Yes, it costs more."),
        ("The builder must register.", "The builder need not register."),
        ("Work must not begin.", "Work may begin."),
        ("A shed may not be used.", "A shed may be used."),
        ("A neighbour cannot stop it.", "A neighbour can stop it."),
        ("They can appeal.", "They cannot appeal."),
        ("The fee is not included.", "The fee is included."),
        ("Materials aren't covered.", "Materials are covered."),
        ("A permit is required.", "A permit is not required."),
        ("ROT does not apply.", "ROT applies."),
        ("It doesn't carry a load.", "It carries a load."),
        ("It does not have one.", "It has one."),
        ("They do not need it.", "They need it."),
        ("A deck requires no permit.", "A deck requires a permit."),
        ("It has no effect.", "It has an effect."),
        ("It is always free.", "It is never free."),
        ("A wall may never be taller.", "A wall may always be taller."),
        ("A deck without a roof.", "A deck with a roof."),
        ("Always check the card.", "Never check the card."),
        ("Do not start before.", "Start before."),
        ("ROT applies to homes.", "ROT does not apply to homes."),
    ],
)
def test_a_negation_is_turned(answer: str, text: str) -> None:
    assert text in {one.text for one in find_alterations(answer, np.random.default_rng(0))}


@pytest.mark.parametrize(
    "answer",
    [
        "If the wall is high.",
        "A person who is insured.",
        "It is not only that.",
        "You can also call.",
        "They can only wait.",
        "In May they rest. It may rain.",
        "ROT also applies there.",
    ],
)
def test_where_a_negation_would_change_nothing_or_read_badly_it_stays(answer: str) -> None:
    assert befores(answer) <= {("date", "May they")}


def test_one_is_drawn_and_the_draw_decides() -> None:
    answer = "Yes, since 2020 a shed of 15 m² is permitted, and must be marked."
    drawn = [alter_answer(answer, np.random.default_rng(seed)) for seed in range(200)]
    assert {one.kind for one in drawn if one} == set(RULES)
    assert all(one and one.text != answer for one in drawn)
    assert alter_answer(answer, np.random.default_rng(3)) == alter_answer(answer, np.random.default_rng(3))
    # A `not` more makes the wrong answer no oftener than its share.
    longer = sum(len(one.text.split()) > len(answer.split()) for one in drawn if one)
    assert longer < 40
    assert alter_answer("A friendly word.", np.random.default_rng(0)) is None
