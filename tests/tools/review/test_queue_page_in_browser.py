"""The review page in a real browser, by its keys."""

import csv
import json
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, expect

from assay.human_review.corrections import HEADER
from tests.review_browser import require_that_it_fits, review_server
from tests.tools.review.test_queue_page import lines
from tools.review.queue_page import COLUMNS

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>{{7*7}} ]]> \u202e</p>"
LABELS = ["bad", "fair", "good"]


def write_project(folder: Path, labels: list[str], texts: list[str], suggested: str = "good") -> Path:
    """A queue with a row of the first label for each text; returns the path of the corrections."""
    (folder / "data/review").mkdir(parents=True)
    (folder / "data/corrected").mkdir()
    pl.DataFrame({"id": labels, "label": labels}).write_parquet(folder / "data/corrected/records.parquet")
    (folder / "params.yaml").write_text("correct: {path: data/corrections.csv, new_labels: []}\n", encoding="utf-8")
    with (folder / "data/review/queue.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for rank, text in enumerate(texts, start=1):
            near = [{"id": "n", "label": labels[1], "text": f"near {text}", "cosine": 0.91}]
            reasons = f'label error: the model gives "{labels[0]}" 3%; annotators disagree: 2 {labels[0]}, 1 {text}'
            row = [rank, f"s:{rank}", "train", "s", text, labels[0], suggested, reasons, json.dumps(near), "label"]
            writer.writerow(row)
    path = folder / "data/corrections.csv"
    path.write_text(f"{HEADER}\n", encoding="utf-8")
    return path


def press(page: Page, key: str, place: str) -> None:
    """Press a key, and wait until the row is shown that comes next."""
    page.keyboard.press(key)
    expect(page.locator("#place")).to_contain_text(place)


def test_the_queue_is_worked_through_by_keys(page: Page, tmp_path: Path, repository: Path) -> None:
    path = write_project(tmp_path, LABELS, [f"text {number}" for number in range(1, 7)])
    with review_server(tmp_path, repository, "Ann") as address:
        page.goto(address)
        expect(page.locator("#text")).to_have_text("text 1")
        expect(page.locator("#count")).to_have_text("0 of 6 decided")
        expect(page.locator("#reviewer")).to_have_text("Ann")
        expect(page.locator("#suggested")).to_have_text("good")
        expect(page.locator("#reasons li")).to_have_text(
            ['label error: the model gives "bad" 3%', "annotators disagree: 2 bad, 1 text 1"]
        )
        expect(page.locator("#neighbours li")).to_have_text(["fairnear text 10.91"])

        press(page, "a", "s:2")
        press(page, "Enter", "s:3")
        press(page, "2", "s:4")
        press(page, "s", "s:5")
        expect(page.locator("#count")).to_have_text("3 of 6 decided")
        assert page.locator("#progress").evaluate("bar => bar.value / bar.max") == 0.5
        page.keyboard.press("n")
        page.keyboard.type("a reason, with r and s")
        page.keyboard.press("Enter")
        press(page, "r", "s:6")
        assert lines(path) == [
            f"s:1,label,bad,bad,,Ann,{date.today()}",
            f"s:2,label,bad,good,,Ann,{date.today()}",
            f"s:3,label,bad,fair,,Ann,{date.today()}",
            f's:5,row,keep,remove,"a reason, with r and s",Ann,{date.today()}',
        ]

        # Back over the removal and the skipped row, and on again.
        press(page, "u", "s:5")
        press(page, "u", "s:4")
        expect(page.locator("#count")).to_have_text("3 of 6 decided")
        assert len(lines(path)) == 3
        press(page, "9", "s:4")
        expect(page.locator("#message")).to_have_text("there is no label 9")
        press(page, "1", "s:5")
        press(page, "s", "s:6")
        page.keyboard.press("a")
        expect(page.locator("#end-title")).to_have_text("1 skipped, all others decided.")
        press(page, "Enter", "s:5")
        page.keyboard.press("Enter")
        expect(page.locator("#end-title")).to_have_text("All rows are decided.")
        expect(page.locator("#count")).to_have_text("6 of 6 decided")
    assert lines(path)[3:] == [
        f"s:4,label,bad,bad,,Ann,{date.today()}",
        f"s:6,label,bad,bad,,Ann,{date.today()}",
        f"s:5,label,bad,good,,Ann,{date.today()}",
    ]


def test_keys_of_other_keyboards_count_by_their_place(page: Page, tmp_path: Path, repository: Path) -> None:
    write_project(tmp_path, LABELS, ["one", "two", "three", "four"])

    def type_key(key: str, code: str, shift: bool = False) -> None:
        page.evaluate(
            "([key, code, shiftKey]) => document.dispatchEvent(new KeyboardEvent('keydown', {key, code, shiftKey}))",
            [key, code, shift],
        )

    with review_server(tmp_path, repository, "Ann") as address:
        page.goto(address)
        expect(page.locator("#text")).to_have_text("one")
        # Cyrillic and French; and what an English keyboard writes with Shift is no digit.
        for key, code, place in (("ф", "KeyA", "s:2"), ("&", "Digit1", "s:3"), ("s", "KeyX", "s:4")):
            type_key(key, code)
            expect(page.locator("#place")).to_contain_text(place)
        type_key("q", "KeyA")
        type_key("!", "Digit1", shift=True)
        type_key("\u0433", "KeyU")
        expect(page.locator("#place")).to_contain_text("s:3")
        # Of an input method, such as a Japanese one.
        type_key("Process", "KeyA")
        expect(page.locator("#place")).to_contain_text("s:4")


def test_it_goes_on_where_it_was_stopped(page: Page, tmp_path: Path, repository: Path) -> None:
    path = write_project(tmp_path, LABELS, ["one", "two", "three"])
    with review_server(tmp_path, repository, "Ann") as address:
        page.goto(address)
        expect(page.locator("#text")).to_have_text("one")
        press(page, "a", "s:2")
    page.keyboard.press("a")
    expect(page.locator("#message")).to_have_text("no answer: does `make review` still run?")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"s:2,row,keep,remove,,Bo,{date.today()}\n")
    with review_server(tmp_path, repository, "Ann") as address:
        page.goto(address)
        expect(page.locator("#text")).to_have_text("three")
        expect(page.locator("#count")).to_have_text("2 of 3 decided")
        page.keyboard.press("u")
        expect(page.locator("#message")).to_have_text("this session added no decision that could be undone")
        # Somebody else is quicker.
        with path.open("a", encoding="utf-8") as file:
            file.write(f"s:3,label,bad,good,,Bo,{date.today()}\n")
        page.keyboard.press("a")
        expect(page.locator("#message")).to_have_text("data/corrections.csv: line 4: Bo decided s:3 meanwhile")
        expect(page.locator("#end-title")).to_have_text("All rows are decided.")
    assert len(lines(path)) == 3


def test_one_of_many_labels_is_found_by_typing(page: Page, tmp_path: Path, repository: Path) -> None:
    labels = [f"label_{number:02}" for number in range(77)]
    path = write_project(tmp_path, labels, ["one", "two", "three"], suggested="label_50")
    with review_server(tmp_path, repository, "Ann") as address:
        page.goto(address)
        # What is likely comes first: the suggestion, the label, the neighbours' labels.
        expect(page.locator("#labels button").nth(0)).to_have_text("1 label_50")
        expect(page.locator("#labels button").nth(2)).to_have_text("3 label_01")
        expect(page.locator("#labels button")).to_have_count(77)
        page.keyboard.press("/")
        page.keyboard.type("_4")
        expect(page.locator("#labels button")).to_have_text([f"label_{number}" for number in range(40, 50)])
        page.keyboard.press("ArrowDown")
        press(page, "Enter", "s:2")
        page.keyboard.press("/")
        page.keyboard.type("no such")
        expect(page.locator("#labels button")).to_have_count(0)
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        press(page, "1", "s:3")
        page.get_by_role("button", name="label_76").click()
        expect(page.locator("#end")).to_be_visible()
    assert [line.split(",")[3] for line in lines(path)] == ["label_41", "label_50", "label_76"]


def test_hostile_text_is_shown_and_not_run(page: Page, tmp_path: Path, repository: Path) -> None:
    labels = ["<b onclick=\"document.title='pwned'\">bad</b>", "<script>document.title='pwned'</script>"]
    path = write_project(tmp_path, labels, [HOSTILE, "next"], suggested=labels[1])
    with review_server(tmp_path, repository, "<i>Ann</i>") as address:
        page.goto(address)
        expect(page.locator("#text")).to_have_text(HOSTILE)
        expect(page.locator("#given")).to_have_text(labels[0])
        expect(page.locator("#neighbours .text")).to_have_text(f"near {HOSTILE}")
        expect(page.locator("#reviewer")).to_have_text("<i>Ann</i>")
        assert page.locator("main img, main script, main b, header i").count() == 0
        # Also what gets in some other way is not run.
        page.evaluate("""() => {
            const image = document.createElement("div");
            image.innerHTML = `<img src="x" onerror="document.title = 'pwned'">`;
            document.body.append(image);
            const script = document.createElement("script");
            script.textContent = "document.title = 'pwned'";
            document.body.append(script);
        }""")
        press(page, "Enter", "s:2")
        assert page.title() == "Review"
    assert list(csv.reader(lines(path))) == [["s:1", "label", *labels, "", "<i>Ann</i>", date.today().isoformat()]]


class OtherPage(BaseHTTPRequestHandler):
    """An empty page of another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_another_page_in_the_browser_can_neither_read_nor_write(page: Page, tmp_path: Path, repository: Path) -> None:
    path = write_project(tmp_path, LABELS, ["secret"])
    with review_server(tmp_path, repository, "Ann") as address, HTTPServer(("127.0.0.1", 0), OtherPage) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        page.goto(f"http://localhost:{other.server_port}/")
        outcomes = page.evaluate(
            """async (address) => {
                const body = JSON.stringify({ id: "s:1", action: "accept" });
                const headers = { "Content-Type": "application/json" };
                const tried = [
                    fetch(`${address}api/rows`),
                    fetch(`${address}api/decide`, { method: "POST", body, headers }),
                    fetch(`${address}api/decide`, { method: "POST", body, mode: "no-cors" }),
                ];
                return (await Promise.allSettled(tried)).map((one) => one.status);
            }""",
            address,
        )
        assert outcomes == ["rejected"] * 3
        # A link from there does not open the page either.
        page.evaluate("address => { location.href = address }", address)
        expect(page.locator("body")).to_contain_text("request of another origin refused")
        other.shutdown()

        foreign = page.context.request.get(f"{address}api/rows", headers={"Host": "evil.example"})
        assert foreign.status == 400
        assert "secret" not in foreign.text()
    assert lines(path) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_width_of_the_screen(browser: Browser, tmp_path: Path, repository: Path, width: int) -> None:
    write_project(tmp_path, ["bad" * 30, *LABELS], ["word " * 100 + "w" * 300, "next"])
    with review_server(tmp_path, repository, "Ann") as address:
        require_that_it_fits(browser, address, width)
