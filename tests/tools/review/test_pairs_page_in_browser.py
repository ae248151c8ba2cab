"""The page of two answers side by side in a real browser, by its keys."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from assay.human_review.preference_judgements import HEADER, read_preferences
from tests.review_browser import require_that_it_fits, review_server
from tests.tools.review.test_pairs_page import write_answers, write_chats

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>{{7*7}} ]]> </p>"
PAIRS = ("--pairs", "secretname-one", "secretname-two")


def write_project(folder: Path, answers: list[str]) -> Path:
    """Answers of two models to so many test prompts; returns the path of the judgements."""
    ids = [f"x:{number}" for number in range(len(answers))]
    write_chats(folder, test=ids)
    write_answers(folder, "secretname-one", dict(zip(ids, answers, strict=True)))
    write_answers(folder, "secretname-two", {row: f"Two of {row}." for row in ids})
    path = folder / "data/preferences.csv"
    path.write_text(f"{HEADER}\n", encoding="utf-8")
    return path


def open_review(page: Page, address: str, count: str) -> None:
    """Open the page, and wait until it has its pairs: a key before that goes nowhere."""
    page.goto(address)
    expect(page.locator("#count")).to_have_text(count)


def press(page: Page, key: str, count: str) -> None:
    """Press a key, and wait until so many are judged."""
    page.keyboard.press(key)
    expect(page.locator("#count")).to_have_text(count)


def test_pairs_are_judged_by_keys(page: Page, tmp_path: Path, repository: Path) -> None:
    path = write_project(tmp_path, [f"One of {number}." for number in range(5)])
    with review_server(tmp_path, repository, "Ann", *PAIRS) as address:
        open_review(page, address, "0 of 5 judged")
        expect(page.locator("#reviewer")).to_have_text("Ann")
        expect(page.locator("#place")).to_contain_text("test")
        expect(page.locator("#before")).to_contain_text("Be brief.")
        assert page.locator("#text").inner_text().startswith("What of x:")
        expect(page.locator("#context li")).to_have_count(1)
        assert "secretname" not in page.content()

        expect(page.locator("#reference")).to_be_hidden()
        page.keyboard.press("r")
        expect(page.locator("#reference")).to_contain_text("The truth of x:")
        seen = []
        for key, count in (("ArrowLeft", 1), ("ArrowRight", 2), ("t", 3)):
            sides = [page.locator(f"#{side}-text").inner_text() for side in ("left", "right")]
            seen.append((page.locator("#text").inner_text().removeprefix("What of ").rstrip("?"), *sides))
            press(page, key, f"{count} of 5 judged")
            expect(page.locator("#reference")).to_be_hidden()
        lines = read_preferences(path)
        assert [(one.prompt_id, one.answer_a, one.answer_b) for one in lines] == seen
        assert [one.preferred for one in lines] == ["a", "b", "tie"]
        assert [one.favourite for one in lines] == [seen[0][1], seen[1][2], None]

        # Back over a skipped pair and a judgement, and on again.
        skipped = page.locator("#text").inner_text()
        page.keyboard.press("s")
        expect(page.locator("#text")).not_to_have_text(skipped)
        page.keyboard.press("u")
        expect(page.locator("#text")).to_have_text(skipped)
        press(page, "u", "2 of 5 judged")
        expect(page.locator("#text")).to_have_text(f"What of {seen[2][0]}?")
        assert len(read_preferences(path)) == 2
        press(page, "1", "3 of 5 judged")
        page.keyboard.press("s")
        press(page, "2", "4 of 5 judged")
        expect(page.locator("#end-title")).to_have_text("1 skipped, all others judged.")
        page.keyboard.press("Enter")
        page.locator("#tie").click()
        expect(page.locator("#end-title")).to_have_text("All pairs are judged.")
    assert [one.preferred for one in read_preferences(path)] == ["a", "b", "a", "b", "tie"]


def test_it_goes_on_where_it_was_stopped(page: Page, tmp_path: Path, repository: Path) -> None:
    path = write_project(tmp_path, ["One.", "Also one."])
    with review_server(tmp_path, repository, "Ann", *PAIRS) as address:
        open_review(page, address, "0 of 2 judged")
        press(page, "ArrowLeft", "1 of 2 judged")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#message")).to_have_text("no answer: does `make review` still run?")
    with review_server(tmp_path, repository, "Ann", *PAIRS) as address:
        open_review(page, address, "1 of 2 judged")
        page.keyboard.press("u")
        expect(page.locator("#message")).to_have_text("this session added no judgement that could be undone")
        press(page, "ArrowRight", "2 of 2 judged")
    # Bo is asked all of it.
    with review_server(tmp_path, repository, "Bo", *PAIRS) as address:
        open_review(page, address, "0 of 2 judged")
    assert len(read_preferences(path)) == 2


def test_hostile_answers_are_shown_and_not_run(page: Page, tmp_path: Path, repository: Path) -> None:
    path = write_project(tmp_path, [HOSTILE + "\nand\\more"])
    with review_server(tmp_path, repository, "<i>Ann</i>", *PAIRS) as address:
        open_review(page, address, "0 of 1 judged")
        shown = {page.locator(f"#{side}-text").inner_text() for side in ("left", "right")}
        assert shown == {HOSTILE + "\nand\\more", "Two of x:0."}
        assert page.locator("main img, main script, header i").count() == 0
        press(page, "ArrowLeft", "1 of 1 judged")
        assert page.title() == "Review of answers"
    (one,) = read_preferences(path)
    assert one.answers == {HOSTILE + "\nand\\more", "Two of x:0."}


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_width_of_the_screen(browser: Browser, tmp_path: Path, repository: Path, width: int) -> None:
    write_project(tmp_path, ["word " * 200 + "w" * 300])
    with review_server(tmp_path, repository, "Ann", *PAIRS) as address:
        require_that_it_fits(browser, address, width)
