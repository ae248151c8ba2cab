from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from flask.testing import FlaskClient

from assay.core.errors import InputError
from assay.human_review.preference_judgements import HEADER, read_preferences
from assay.language_models.chat_template import MESSAGES
from tests.own_cases import read_cases
from tests.tools.review.test_queue_page import get, post
from tools.review import pairs_page, queue_page
from tools.review.pairs_page import comparisons, read_answers, read_prompts
from tools.review.server import Added

CASES = read_cases(__file__)

MODELS = ("secretname-one", "secretname-two")


def write_chats(folder: Path, **ids: list[str]) -> None:
    """Chat tables of three splits with the ids that are given for each."""
    (folder / "data/instruct").mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        rows = [
            {
                "id": row,
                "category": "roof",
                "task": "answer",
                "question": f"What of {row}?",
                "answer": f"The truth of {row}.",
                "context": [f"A passage on {row}."],
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": f"A passage. What of {row}?"},
                    {"role": "assistant", "content": f"The truth of {row}."},
                ],
            }
            for row in ids.get(split, [])
        ]
        schema: dict[str, pl.DataType | type[pl.DataType]] = {
            **dict.fromkeys(("id", "category", "task", "question", "answer"), pl.String),
            "messages": MESSAGES,
            "context": pl.List(pl.String),
        }
        pl.DataFrame(rows, schema=schema).write_parquet(folder / f"data/instruct/{split}.parquet")
    (folder / "params.yaml").write_text("preferences: {path: data/preferences.csv}\n", encoding="utf-8")


def write_answers(folder: Path, model: str, answers: dict[str, str | None]) -> None:
    (folder / "data/generations" / model).mkdir(parents=True)
    table = pl.DataFrame({"id": list(answers), "answer": list(answers.values()), "mode": ["open"] * len(answers)})
    table.write_parquet(folder / "data/generations" / model / "answers.parquet")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_chats(tmp_path, train=["t:1"], validation=["v:1"], test=["x:1", "x:2"])
    write_answers(tmp_path, MODELS[0], {"t:1": "One.\nTwo.", "v:1": "Same. ", "x:1": "Yes, so.", "x:2": None})
    write_answers(tmp_path, MODELS[1], {"t:1": "Other.", "v:1": "Same.", "x:1": "No.", "x:2": "Well.", "x:3": "?"})
    path = Path("data/preferences.csv")
    path.write_text(f"{HEADER}\n", encoding="utf-8")
    return path


@pytest.fixture
def client(file: Path) -> FlaskClient:
    return client_of("Ann", file)


def client_of(reviewer: str, file: Path) -> FlaskClient:
    found = comparisons(read_answers(list(MODELS)))
    prompts = read_prompts({one.prompt_id for one in found})
    return pairs_page.make_app(found, prompts, reviewer, Added(file, "judgement")).test_client()


def keys(client: FlaskClient) -> dict[str, str]:
    """Key of the pair of each prompt."""
    return {pair["prompt_id"]: pair["id"] for pair in get(client, "/api/rows").get_json()["rows"]}


def test_pairs_are_shown_with_what_was_asked(client: FlaskClient) -> None:
    shown = get(client, "/api/rows").get_json()
    assert shown["reviewer"] == "Ann"
    by_prompt = {pair["prompt_id"]: pair for pair in shown["rows"]}
    # Of equal answers there is nothing to judge, and of a prompt that one model was not asked.
    assert set(by_prompt) == {"t:1", "x:1", "x:2"}
    one = by_prompt["t:1"]
    assert {one["left"], one["right"]} == {"One.\nTwo.", "Other."}
    assert (one["split"], one["question"], one["context"]) == ("train", "What of t:1?", ["A passage on t:1."])
    assert one["before"] == [{"role": "system", "content": "Be brief."}]
    assert one["reference"] == "The truth of t:1."
    assert {by_prompt["x:2"]["left"], by_prompt["x:2"]["right"]} == {"", "Well."}
    assert not any(pair["decided"] for pair in shown["rows"])


def test_nothing_that_the_page_gets_names_a_model(client: FlaskClient) -> None:
    judged = post(client, "/api/decide", id="0", preferred="left")
    undone = post(client, "/api/undo")
    for address in ("/", "/pairs_page.js", "/common.js", "/page.css", "/api/rows"):
        assert b"secretname" not in get(client, address).data
    assert b"secretname" not in judged.data + undone.data


def test_each_judgement_is_a_line_with_its_models(client: FlaskClient, file: Path) -> None:
    key = keys(client)
    shown = {pair["prompt_id"]: pair for pair in get(client, "/api/rows").get_json()["rows"]}
    said = post(client, "/api/decide", id=key["t:1"], preferred="left").get_json()
    assert said == {"id": key["t:1"], "line": 2, "preferred": "left"}
    post(client, "/api/decide", id=key["x:1"], preferred="right")
    post(client, "/api/decide", id=key["x:2"], preferred="tie")
    lines = read_preferences(file)
    answers = read_answers(list(MODELS))
    assert [(line.prompt_id, line.preferred) for line in lines] == [("t:1", "a"), ("x:1", "b"), ("x:2", "tie")]
    for line in lines:
        assert (line.answer_a, line.answer_b) == (shown[line.prompt_id]["left"], shown[line.prompt_id]["right"])
        assert answers[line.model_a][line.prompt_id] == line.answer_a
        assert answers[line.model_b][line.prompt_id] == line.answer_b
        assert (line.reviewer, line.date) == ("Ann", date.today().isoformat())
    assert lines[0].favourite == shown["t:1"]["left"]
    assert all(pair["decided"] for pair in get(client, "/api/rows").get_json()["rows"])


def test_sides_are_drawn_by_key(tmp_path: Path) -> None:
    ids = [f"p:{number}" for number in range(200)]
    for model in "abc":
        write_answers(tmp_path, model, {row: f"{model} says {row}" for row in ids})
    found = comparisons(read_answers(["a", "b"]))
    on_the_left = sum(one.left_model == "a" for one in found)
    assert 70 <= on_the_left <= 130
    assert found == comparisons(read_answers(["b", "a"]))
    assert [one.prompt_id for one in found] != ids
    # Of three models each prompt comes once before any comes again, and all three pairs are drawn.
    three = comparisons(read_answers(["a", "b", "c"]))
    assert len(three) == 600
    assert len({one.prompt_id for one in three[:200]}) == 200
    first = [frozenset((one.left_model, one.right_model)) for one in three[:200]]
    assert all(first.count(frozenset(pair)) > 40 for pair in ("ab", "ac", "bc"))


def test_another_reviewer_judges_for_themselves(client: FlaskClient, file: Path) -> None:
    post(client, "/api/decide", id="0", preferred="left")
    of_bo = client_of("Bo", file)
    assert not any(pair["decided"] for pair in get(of_bo, "/api/rows").get_json()["rows"])
    assert post(of_bo, "/api/decide", id="0", preferred="right").status_code == 200
    again = post(of_bo, "/api/decide", id="0", preferred="left")
    assert again.status_code == 409
    assert again.get_json()["decided"] is True
    assert "line 3: Bo judged these answers to" in again.get_json()["error"]
    assert len(read_preferences(file)) == 2


@pytest.mark.parametrize(("body", "said"), CASES["what_is_no_judgement_writes_nothing"])
def test_what_is_no_judgement_writes_nothing(client: FlaskClient, file: Path, body: dict[str, Any], said: str) -> None:
    answer = post(client, "/api/decide", **body)
    assert answer.status_code == 400
    assert said in answer.get_json()["error"]
    assert read_preferences(file) == []


def test_a_question_that_was_reworded_is_judged_again(client: FlaskClient, file: Path) -> None:
    before = get(client, "/api/rows").get_json()["rows"][0]["question"]
    post(client, "/api/decide", id="0", preferred="left")
    for path in Path("data/instruct").iterdir():
        table = pl.read_parquet(path)
        table.with_columns(pl.col("question").replace(before, "Put otherwise?")).write_parquet(path)
    client = client_of("Ann", file)
    assert not get(client, "/api/rows").get_json()["rows"][0]["decided"]
    assert post(client, "/api/decide", id="0", preferred="right").status_code == 200
    assert [(line.is_of(before), line.is_of("Put otherwise?")) for line in read_preferences(file)] == [
        (True, False),
        (False, True),
    ]


def test_a_file_of_an_earlier_version_says_how_to_go_on(client: FlaskClient, file: Path) -> None:
    old, _, column = HEADER.rpartition(",")
    file.write_text(f"{old}\n", encoding="utf-8")
    answer = post(client, "/api/decide", id="0", preferred="left")
    assert f"line 1: the header is that of an earlier version: add ,{column} at its end" in answer.get_json()["error"]


def test_wrong_models_are_told_with_those_that_there_are(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for models in (["secretname-one"], ["secretname-one", "secretname-one"]):
        with pytest.raises(InputError, match="name two or more different models"):
            read_answers(models)
    there = r"there are secretname-one, secretname-two\. `dvc repro evaluate_generation@dp`"
    with pytest.raises(InputError, match=there):
        read_answers(["secretname-one", "dp"])
    write_answers(tmp_path, "odd", {"q:1": "A."})
    write_answers(tmp_path, "odder", {"q:1": "B."})
    with pytest.raises(InputError, match="answers to 'q:1' and 0 more that are in no table"):
        read_prompts({"q:1"})
    monkeypatch.setattr("sys.argv", ["review", "--reviewer", "Ann", "--pairs", "odd", "secretname-one"])
    with pytest.raises(InputError, match="have no prompt in common that they answer differently"):
        queue_page.main()
    Path("data/instruct/train.parquet").unlink()
    with pytest.raises(InputError, match="make it with `dvc repro instruct_data`"):
        read_prompts({"t:1"})
    assert file.is_file()
