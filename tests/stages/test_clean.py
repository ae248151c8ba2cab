import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assay.cleaning import row_cleaning
from assay.cleaning import rules as cleaning_rules
from assay.cleaning.rule_chain import ScopedRule, Settled, apply_rules, with_settings
from assay.core import row_batches
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.removed_rows import REMOVED_SCHEMA
from stages import clean
from tests.own_cases import read_cases
from tests.own_process import run_python
from tests.template_params import sections

RULES = (
    *("repair_unicode", "html_to_text", "remove_control_characters", "redact_email", "redact_url"),
    *("redact_phone", "collapse_white_space"),
)
SECTION: dict[str, Any] = sections(
    clean={"checks": {}, "rules": dict.fromkeys(RULES, True), "max_characters": 60, "planted_rows_per_kind": 10}
    | {"max_tokens": {"tokenizer": "tokenizer.json", "tokens": 1000}}
)["clean"]


Rows = list[tuple[str, str, str | None]]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copy(tiny_encoder / "tokenizer.json", tmp_path)


def write_params(given_column: str | None = None, **changed: Any) -> None:
    division = {"given_column": given_column, "given_values": {"trn": "train", "tst": "test"}}
    params = {"seed": 7, "clean": SECTION | changed, "split": division}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def write_input(rows: Rows) -> None:
    """Ingested records `(id, text, label)`, with two ratings each."""
    folder = Path("data/ingested")
    folder.mkdir(parents=True, exist_ok=True)
    nothing = pl.lit(None, pl.String)
    records = pl.DataFrame(rows, schema=dict.fromkeys(("id", "text", "label"), pl.String), orient="row")
    records.with_columns(reference_label=nothing, response=nothing, source=pl.lit("s"), origin="id").write_parquet(
        folder / "records.parquet"
    )
    ratings = [(row[0], annotator, 1.0, row[2]) for row in rows for annotator in ("01", "02")]
    schema = {"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String}
    pl.DataFrame(ratings, schema=schema, orient="row").write_parquet(folder / "ratings.parquet")


def run(rows: Rows, **changed: Any) -> dict[str, Any]:
    write_params(**changed)
    write_input(rows)
    clean.main()
    metrics: dict[str, Any] = read_json("metrics/clean.json")
    assert metrics["rows_in"] == metrics["rows_out"] + sum(metrics["removed"].values())
    assert metrics["rows_in"] == len(rows)
    assert metrics["rows_out"] == read("records").height
    assert sum(metrics["removed"].values()) == read("removed").height
    return metrics


def read(name: str) -> pl.DataFrame:
    return pl.read_parquet(f"data/clean/{name}.parquet")


def test_rows_and_their_ratings_come_out() -> None:
    metrics = run([("a", "the phone is good", "x"), ("b", "a", "x"), ("c", "bad battery", "y")])
    assert read("records").columns == [
        *("id", "text", "label", "reference_label", "response", "source", "origin", "near_duplicate_group")
    ]
    assert read("records").select("id", "text", "near_duplicate_group").rows() == [
        ("a", "the phone is good", "a"),
        ("c", "bad battery", "c"),
    ]
    assert read("ratings")["id"].to_list() == ["a", "a", "c", "c"]
    assert metrics["labels"] == {"x": 1, "y": 1}
    assert metrics["changed"] == dict.fromkeys(RULES, 0)


def test_each_change_of_each_row_is_written_down() -> None:
    metrics = run([("a", " me &amp; you\n", "x"), ("b", "nothing to do", "x"), ("c", "see www.x.y, you", "x")])
    assert read("changed").schema == REMOVED_SCHEMA
    assert read("changed").rows() == [
        ("a", "html_to_text", " me &amp; you\n", " me & you\n"),
        ("c", "redact_url", "see www.x.y, you", "see <URL>, you"),
        ("a", "collapse_white_space", " me & you\n", "me & you"),
    ]
    assert read("records")["text"].to_list() == ["me & you", "nothing to do", "see <URL>, you"]
    once = dict.fromkeys(("html_to_text", "redact_url", "collapse_white_space"), 1)
    assert metrics["changed"] == dict.fromkeys(RULES, 0) | once
    assert metrics["rows_changed"] == 2


def test_rules_run_in_the_order_of_the_params() -> None:
    rows: Rows = [("a", "mail a@b.cd&lt;br&gt;now", "x")]
    run(rows, rules={"html_to_text": True, "redact_email": True})
    assert read("records")["text"].to_list() == ["mail <EMAIL><br>now"]
    assert read("changed")["rule"].to_list() == ["html_to_text", "redact_email"]
    run(rows, rules={"redact_email": True, "html_to_text": True})
    assert read("changed")["rule"].to_list() == ["redact_email", "html_to_text"]
    run([("a", " two  words ", "x")], rules={})
    assert read("records")["text"].to_list() == [" two  words "]
    assert read("changed").rows() == []


def test_rows_that_cannot_be_used_are_removed() -> None:
    metrics = run(
        [
            ("empty", " \n", "x"),
            ("short", "!", "x"),
            ("long", "x" * 61, "x"),
            ("edge", "y" * 60, "x"),
            ("two", "ok", "x"),
            ("unlabelled", "no label here", None),
        ]
    )
    assert read("records")["id"].to_list() == ["edge", "two"]
    assert read("removed").rows() == [
        ("unlabelled", "missing_label", "no label here", None, None),
        ("empty", "empty_text", "", None, None),
        ("short", "min_characters", "!", None, None),
        ("long", "max_characters", "x" * 61, None, None),
    ]
    counts = {rule: rows for rule, rows in metrics["removed"].items() if rows}
    assert counts == dict.fromkeys(("missing_label", "empty_text", "min_characters", "max_characters"), 1)


def test_one_row_of_each_group_and_label_stays_and_all_are_listed() -> None:
    metrics = run(
        [
            ("a", "the battery of this phone is great", "good"),
            ("b", "something else altogether", "bad"),
            ("c", "The battery of this phone is GREAT!", "bad"),
            ("d", "the battery of this phone is  great", "good"),
            ("e", "something else altogether", "bad"),
            ("f", "not like any other", "bad"),
        ]
    )
    # Which of `a` and `d`, `b` and `e`, is drawn by the hash of their ids.
    kept = [("a", "a"), ("c", "a"), ("e", "e"), ("f", "f")]
    assert read("records").select("id", "near_duplicate_group").rows() == kept
    assert read("removed").rows() == [
        ("b", "exact_duplicate", "something else altogether", None, "e"),
        ("d", "exact_duplicate", "the battery of this phone is great", None, "a"),
    ]
    assert read("removed").select(REMOVED_SCHEMA.names()).schema == REMOVED_SCHEMA
    groups = read("duplicate_groups")
    assert groups.select("near_duplicate_group", "id", "is_kept", "label", "labels_differ").rows() == [
        ("a", "a", True, "good", True),
        ("a", "c", True, "bad", True),
        ("a", "d", False, "good", True),
        ("e", "b", False, "bad", False),
        ("e", "e", True, "bad", False),
    ]
    assert metrics["near_duplicate_groups"] == 2
    assert metrics["near_duplicates_kept"] == 1
    assert metrics["near_duplicate_groups_with_conflicting_labels"] == 1


def test_labels_are_compared_by_the_reference_where_there_is_one() -> None:
    write_params()
    write_input([("a", "good phone", "x"), ("b", "good phone", "y"), ("c", "bad phone", "x"), ("d", "bad phone", "x")])
    path = Path("data/ingested/records.parquet")
    reference = pl.Series(["z", "z", "x", "y"])
    pl.read_parquet(path).with_columns(reference_label=reference).write_parquet(path)
    clean.main()
    assert read("removed")["id"].is_in(["a", "b"]).to_list() == [True]


def test_a_division_that_the_data_does_not_have() -> None:
    write_params(given_column="part")
    write_input([("a", "good phone", "x")])
    assert "no column 'part' (`split.given_column`)" in fails()


def test_missing_labels_can_be_filled_in() -> None:
    rows: Rows = [
        ("a", "one text", "x"),
        ("b", "another thing", "x"),
        ("c", "a third, unlike", "y"),
        ("d", "nobody labelled me", None),
    ]
    for policy, label in (("mode", "x"), ("unknown", "unknown"), ({"constant": "z"}, "z")):
        metrics = run(rows, missing={"label": policy})
        assert read("records").filter(id="d")["label"].to_list() == [label]
        assert read("changed").rows() == [("d", "impute_label", None, label)]
        assert metrics["changed"]["impute_label"] == 1
    metrics = run(rows, missing={"label": "review"})
    assert metrics["removed"]["review_missing_label"] == 1
    assert read("removed").rows() == [("d", "review_missing_label", "nobody labelled me", None, None)]


def test_values_are_checked_before_anything_is_done_to_them() -> None:
    metrics = run(
        [("a", "<b>" * 400, "x"), ("b", "good text", "z"), ("c", "more good text", "x")],
        checks={
            "text": {"allowed": None, "pattern": None, "max_characters": 1000},
            "label": {"allowed": ["x", "y"], "pattern": None, "max_characters": None},
        },
    )
    assert metrics["removed"]["text_max_characters"] == 1
    assert metrics["removed"]["label_allowed"] == 1
    assert read("records")["id"].to_list() == ["c"]


def test_a_rule_can_be_off_or_for_some_sources_alone() -> None:
    rows: Rows = [("a", "two  spaces", "x"), ("b", "<b>two</b>  tags", "x")]
    run(rows, rules={"html_to_text": False, "collapse_white_space": ["s"]})
    assert read("records")["text"].to_list() == ["two spaces", "<b>two</b> tags"]
    run(rows, rules={"html_to_text": ["s"], "collapse_white_space": []})
    assert read("records")["text"].to_list() == ["two  spaces", "two  tags"]


def test_texts_of_too_many_tokens_and_in_other_languages_are_removed_on_request() -> None:
    few = {"tokenizer": "tokenizer.json", "tokens": 8}
    metrics = run([("a", "? " * 29 + "!", "x"), ("b", "good phone", "x")], max_tokens=few)
    assert metrics["removed"]["max_tokens"] == 1
    assert read("records")["id"].to_list() == ["b"]
    english = "I would like to know when my new card will arrive, please."
    german = "Ich möchte gerne wissen, wann meine neue Karte ankommt, bitte."
    metrics = run(
        [("en", english, "x"), ("de", german, "x")],
        max_characters=200,
        max_tokens={"tokenizer": "tokenizer.json", "tokens": 1000},
        languages={"keep": ["en"], "min_probability": 0.5, "min_characters": 20},
    )
    assert metrics["removed"]["language"] == 1
    assert read("records")["id"].to_list() == ["en"]


def test_redaction_is_scored_on_planted_values() -> None:
    rows: Rows = [
        (f"r{number}", f"the {word} of my phone is very good", "x")
        for number, word in enumerate(["battery", "screen", "case", "sound", "price", "camera", "colour", "size"])
    ]
    metrics = run(rows)
    assert set(metrics["planted"]) == {"email", "url", "phone"}
    assert metrics["planted"]["email"]["recall"] > 0.9
    assert run(rows, rules={"collapse_white_space": True})["planted"] == {}


def test_a_rule_for_a_source_of_which_no_row_is_left_is_scored_all_the_same() -> None:
    write_params(rules={"redact_email": ["gone"]})
    write_input([("a", "the phone is good", "x"), ("b", "a bad battery", "y"), ("c", "no label", None)])
    path = Path("data/ingested/records.parquet")
    table = pl.read_parquet(path)
    gone = pl.when(pl.col("label").is_null()).then(pl.lit("gone")).otherwise("source")
    table.with_columns(source=gone).write_parquet(path)
    clean.main()
    assert read("records")["source"].unique().to_list() == ["s"]
    assert read_json("metrics/clean.json")["planted"]["email"]["recall"] > 0.9


def test_batches_do_not_show_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Rows = [
        (f"r{number}", f"row {number % 40} of many &amp; more www.x{number % 7}.y", "xyz"[number % 3])
        for number in range(100)
    ]
    rules = dict.fromkeys(("html_to_text", "redact_url"), True)
    whole = run(rows, rules=rules)
    tables = {name: read(name) for name in ("records", "removed", "duplicate_groups", "ratings")}
    monkeypatch.setattr(row_batches, "BATCH_ROWS", 7)
    monkeypatch.setattr(row_cleaning, "BATCH_ROWS", 7)
    assert run(rows, rules=rules) == whole
    for name, table in tables.items():
        assert read(name).equals(table), name


def test_no_rule_makes_rows_or_cells_out_of_nothing() -> None:
    metrics = run([("a", "kept as it is", "x"), ("b", " ", "x")], rules=dict.fromkeys(cleaning_rules.RULES, True))
    assert read("records").select("id", "text", "label").rows() == [("a", "kept as it is", "x")]
    assert metrics["rows_changed"] == 1


def fails() -> str:
    with pytest.raises(InputError) as caught:
        clean.main()
    assert not Path("data/clean").exists()
    assert not Path("metrics").exists()
    return str(caught.value)


@pytest.mark.parametrize(("changed", "expected"), read_cases(__file__)["wrong_params"])
def test_wrong_params(changed: dict[str, Any], expected: str) -> None:
    write_params(**changed)
    write_input([("a", "some text", "x")])
    assert expected in fails()


def test_no_row_is_left() -> None:
    write_params()
    write_input([("a", "!", "x"), ("b", "good", None)])
    assert "no row is left ({'min_characters': 1, 'missing_label': 1})" in fails()


@pytest.mark.slow
def test_the_same_bytes_again_with_another_hash_seed_and_more_threads() -> None:
    write_params()
    write_input([(str(n), f"row {n % 40} of many &amp; more www.x{n % 7}.y", "xyz"[n % 3]) for n in range(200)])
    found = []
    for number in ("1", "2"):
        more = dict.fromkeys(("PYTHONHASHSEED", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), number)
        run_python("-m", "stages.clean", cwd=None, status=0, **more)
        found.append({path.name: path.read_bytes() for path in Path("data/clean").iterdir()})
    assert found[0] == found[1]


def test_a_full_disk_leaves_nothing_and_says_so() -> None:
    write_params()
    write_input([(str(n), f"row {n * 7919 % 10007} is not like {n * 104729 % 7919}", "x") for n in range(500)])
    code = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "runpy.run_module('stages.clean', run_name='__main__')"
    )
    # Compiled modules would be cut off at the limit, too, and fail to load ever after.
    done = run_python("-c", code, status=1, PYTHONDONTWRITEBYTECODE="1")
    assert re.match(r"error: data/\.clean\.partial-\d+/parts/cleaned/0-000000000000\.parquet: File too l", done.stderr)
    assert "Traceback" not in done.stderr
    assert [path.name for path in Path("data").iterdir()] == ["ingested"]
    assert not Path("metrics").exists()


@pytest.mark.timeout(200)  # seconds; quadratic would be hours
def test_hostile_cells_are_rejected_or_cleaned_and_never_hang() -> None:
    hostile = {
        "too_long": "x" * 10_000_000,
        "nested": "<div>" * 10_000 + "nested deep inside" + "</div>" * 10_000,
        "tags": "<b " * 100_000 + "unfinished",
        "entities": "&" + "amp;" * 100_000 + "lt;",
        "mails": "a@" * 100_000,
        "digits": "4111 " * 50_000,
        "quotes": "> quote\n" * 50_000,
        "invisible": "\u200b\u202e" * 50_000 + "seen after all",
        "noncharacters": "half \ufffd of it \ufdd0\uffff\U0010ffff is odd",
    }
    checks = {"text": {"allowed": None, "pattern": None, "max_characters": 1_000_000}}
    rules = dict.fromkeys(cleaning_rules.RULES, True)
    metrics = run([(name, text, "x") for name, text in hostile.items()], rules=rules, checks=checks)
    assert metrics["removed"]["text_max_characters"] == 1
    texts = dict(read("records").select("id", "text").rows())
    assert texts["nested"] == "nested deep inside"
    assert texts["invisible"] == "seen after all"
    assert metrics["removed"]["unsettled"] == 0


def test_every_rule_stands_in_the_params_and_in_the_docs_in_the_same_order(repository: Path) -> None:
    in_params = list(yaml.safe_load((repository / "params.yaml").read_text())["clean"]["rules"])
    documented = re.findall(r"^\| `(\w+)` \|", (repository / "docs/cleaning.md").read_text(), re.MULTILINE)
    assert documented == in_params
    assert set(in_params) == set(cleaning_rules.RULES)


ALPHABET = (
    *("&amp;", "&lt;", "gt;", "<b>", "<br", ">", "<!--", "-->", "\n", "\n> ", "\n-- \n", " ", "\u00a0", "\u200b"),
    *("\x00", "a@b.cd", "http://", "u:p@h.io", "www.x.y/z", "415-555-0132", "+44 20 7946 0958", "192.168.1.9", "$"),
    *("€", "GB33BUKB20201555555555", "4111 1111 1111 1111", "1,234.50", "12.03.2024", "soooo", "!!!!!", "PLS"),
    *("recieve", "THE LOUD ONE", "e\u0301", "\u2019", "\uff21", "\ufb01"),
)


SETTINGS = {"numbered": True, "patterns": ["x+y"]}


def applied(texts: list[str], rules: list[ScopedRule]) -> Settled:
    ids = [str(number) for number in range(len(texts))]
    schema = dict.fromkeys(("id", "source", "text"), pl.String)
    return apply_rules(pl.DataFrame({"id": ids, "source": ids, "text": texts}, schema=schema), rules)


@pytest.mark.slow
@given(st.lists(st.lists(st.sampled_from(ALPHABET) | st.text(max_size=3), max_size=8).map("".join), max_size=5))
@hypothesis_settings(deadline=None, max_examples=150)
def test_cleaning_what_is_clean_changes_nothing(texts: list[str]) -> None:
    rules = [
        ScopedRule(name, with_settings(rule, SETTINGS), None, name in cleaning_rules.DECODERS)
        for name, rule in cleaning_rules.RULES.items()
    ]
    once = applied(texts, rules)
    assert (len(once.texts), len(once.unsettled)) == (len(texts), 0)
    # What a decoder gave looks like what it takes.
    again = applied(once.texts.to_list(), [rule for rule in rules if not rule.once])
    assert again.texts.to_list() == once.texts.to_list()
    assert again.changed.height == 0


@pytest.mark.parametrize("name", sorted(cleaning_rules.NEEDS))
def test_a_text_without_what_a_rule_needs_is_left_alone(name: str) -> None:
    rule = with_settings(cleaning_rules.RULES[name], SETTINGS)
    without = {"digits": r"\d", "lines": "\n", "wide": "[^\x00-\x7f]"}[cleaning_rules.NEEDS[name]]
    pieces = st.sampled_from([*ALPHABET, "password: ", "secret=", "Bearer ", "call ", "1-8", "dead:beef:", "passport "])

    @given(st.lists(st.lists(pieces | st.text(max_size=5), max_size=8).map("".join), min_size=10, max_size=30))
    @hypothesis_settings(deadline=None, max_examples=60)
    def holds(texts: list[str]) -> None:
        table = pl.DataFrame({"text": [re.sub(without, "", text) for text in texts]})
        assert table.select(rule(pl.col("text"))).equals(table)

    holds()
