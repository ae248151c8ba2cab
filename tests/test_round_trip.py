"""The way back: queue → decision in the browser → corrections → `dvc repro` → changed label in the training set."""

import csv
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Page, expect

from assay.human_review.corrections import HEADER
from tests.pipeline_copy import write_pipeline_copy
from tests.review_browser import browser, review_server
from tests.test_smoke import start_project

LABELS = ["negative", "neutral", "positive"]
BEFORE_LABELS = ["ingest", "clean", "embed"]
AFTER_LABELS = ["correct", "semantic_duplicates", "annotation_qa", "split", "label_errors", "augment"]
AFTER_LABELS += ["finetune@tfidf", "evaluate@tfidf", "review_queue@tfidf"]


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def decide(page: Page, row: dict[str, str]) -> tuple[str, str]:
    """Give another label to the row that is shown, by the key that the page names for it; returns id and label."""
    expect(page.locator("#place")).to_contain_text(row["id"])
    new = row["suggested_label"] or next(label for label in LABELS if label != row["label"])
    page.keyboard.press("Enter" if row["suggested_label"] else str(LABELS.index(new) + 1))
    expect(page.locator("#message")).to_contain_text(f"{row['id']}: {row['label']} → {new}")
    return row["id"], new


def labels_of(path: Path) -> dict[str, str]:
    return dict(pl.read_parquet(path).select("id", "label").iter_rows())


@pytest.mark.slow
def test_what_is_decided_in_the_browser_is_trained_on(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fork"
    params = write_pipeline_copy(repository, folder, tiny_encoder, tiny_chat_model, feedback_rows=120)
    params["approaches"] = ["tfidf"]
    params["augment"]["recipes"] = []
    params["optional"]["review_queue"] = ["tfidf"]
    params["review_queue"] |= {"rows": 40, "min_confidence": 0.0}
    params["annotation_qa"]["bootstrap_samples"] = 100
    project = start_project(folder, repository, params)
    first = ran(project.dvc("repro", "review_queue"))
    assert {stage for stage in first if "fetch" not in stage} == {*BEFORE_LABELS, *AFTER_LABELS}

    with (folder / "data/review/queue.csv").open(encoding="utf-8", newline="") as file:
        queue = list(csv.DictReader(file))
    assert {row["split"] for row in queue} == {"train", "validation"}
    removed = next(row for row in queue if row["split"] == "train")
    wanted = [row for row in queue if row["split"] == "train"][1:7]
    new_labels: dict[str, str] = {}
    with browser() as opened, review_server(folder, repository, "Ann") as address:
        page = opened.new_page()
        page.goto(address)
        for row in queue[: queue.index(wanted[-1]) + 1]:
            expect(page.locator("#place")).to_contain_text(row["id"])
            if row in wanted:
                new_labels |= [decide(page, row)]
            else:
                page.keyboard.press("r" if row == removed else "s")
            expect(page.locator("#place")).not_to_contain_text(f"#{row['rank']} ")
        expect(page.locator("#count")).to_have_text(f"7 of {len(queue)} decided")
    lines = (folder / "data/corrections.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8
    assert lines[0] == HEADER

    assert set(ran(project.dvc("repro", "review_queue"))) == set(AFTER_LABELS)
    corrected = labels_of(folder / "data/corrected/records.parquet")
    assert {row_id: corrected[row_id] for row_id in new_labels} == new_labels
    assert removed["id"] not in corrected
    trained = labels_of(folder / "data/augmented/train.parquet")
    assert {row_id: trained.get(row_id) for row_id in new_labels} == new_labels
    # Nothing of it is left, and what was corrected is in the split that it was in.
    assert removed["id"] not in trained
    assert project.metrics("correct")["relabelled"] == len(new_labels)

    # What is decided is not asked again.
    with (folder / "data/review/queue.csv").open(encoding="utf-8", newline="") as file:
        assert not {row["id"] for row in csv.DictReader(file)} & {removed["id"], *new_labels}
