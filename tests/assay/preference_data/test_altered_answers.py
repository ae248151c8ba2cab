import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from assay.preference_data.altered_answers import LEAST_RATIO, RULES, alter_answer, find_alterations

CASES = yaml.safe_load(Path(__file__).with_name("altered.yaml").read_text(encoding="utf-8"))


def changed(answer: str, seed: int = 0) -> set[tuple[str, str, str]]:
    return {(one.kind, one.before, one.after) for one in find_alterations(answer, np.random.default_rng(seed))}


def befores(answer: str) -> set[tuple[str, str]]:
    return {(kind, before) for kind, before, _ in changed(answer)}


@pytest.mark.parametrize(("answer", "before"), CASES["quantities"])
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


@pytest.mark.parametrize("answer", CASES["references"])
def test_what_points_to_a_text_is_left_alone(answer: str) -> None:
    assert changed(answer) == set()


@pytest.mark.parametrize(("answer", "before"), CASES["dates"])
def test_a_date_becomes_another(answer: str, before: str) -> None:
    assert ("date", before) in befores(answer)
    for seed in range(10):
        assert all(before != after for _, before, after in changed(answer, seed))


@pytest.mark.parametrize(("answer", "text"), CASES["negations"])
def test_a_negation_is_turned(answer: str, text: str) -> None:
    assert text in {one.text for one in find_alterations(answer, np.random.default_rng(0))}


@pytest.mark.parametrize("answer", CASES["no_negation"])
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
