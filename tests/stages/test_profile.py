from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from stages import profile
from tests.own_results import read_outputs
from tests.template_params import sections

TEXTS = {
    "mail": ["Where is my card, please?", "My card was stolen yesterday", "The card does not work today"],
    "shop": ["Der Versand dauert leider viel zu lange", "I would like to have my money back", "so so so so"],
}
LABELS: dict[str, list[str | None]] = {"mail": ["card", "card", "card"], "shop": ["refund", "refund", None]}


@pytest.fixture(autouse=True)
def workspace(tiny_encoder: Path) -> None:
    few = {"min_rows_per_label": 3, "neighbours": 2, "reference_rows": 6}
    params = sections(seed=1, compute={}, profile=few | {"tokenizer": str(tiny_encoder / "tokenizer.json")})
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_inputs()


def write_inputs(texts: dict[str, list[str]] = TEXTS, labels: dict[str, list[str | None]] = LABELS) -> None:
    names = [name for name, part in texts.items() for _ in part]
    rows = pl.DataFrame(
        {
            "id": [f"{name}:{number}" for number, name in enumerate(names)],
            "text": [text for part in texts.values() for text in part],
            "label": pl.Series([label for part in labels.values() for label in part], dtype=pl.String),
            "source": names,
            "authenticity": ["real" if name == "mail" else "generated" for name in names],
        }
    )
    rows.write_parquet("data/corrected/records.parquet", mkdir=True)
    vectors = np.random.default_rng(1).normal(size=(rows.height, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embedding = pl.Series("embedding", vectors.astype(np.float32), dtype=pl.Array(pl.Float32, 4))
    vectors_of = pl.DataFrame({"id": rows["id"], "embedding": embedding})
    vectors_of.write_parquet("data/embeddings/embeddings.parquet", mkdir=True)
    pl.DataFrame(
        {
            "id": ["mail:0", "mail:0~synonym", "mail:0~character_noise"],
            "parent_id": [None, "mail:0", "mail:0"],
            "authenticity": ["real", "augmented", "augmented"],
        }
    ).write_parquet("data/augmented/train.parquet", mkdir=True)
    pl.DataFrame(
        {
            "name": ["mail", "shop", "empty"],
            "url": ["https://example.org/mail", "export of 2025", "nowhere"],
            "licence": ["MIT", None, "MIT"],
            "retrieved": ["2026-11-22", None, None],
            "rows_in": [5, 3, 1],
            "rows_out": [4, 3, 0],
        }
    ).write_parquet("data/ingested/sources.parquet", mkdir=True)


def run() -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    profile.main()
    return read_outputs("data/profile", "profile")


def test_each_source_and_all_of_them_are_profiled() -> None:
    _, metrics = run()
    mail, shop = metrics["per_source"]["mail"], metrics["per_source"]["shop"]
    assert set(mail) - {"rows_in"} == set(metrics) - {
        *("run_id", "sources", "rows_without_label", "labels", "labels_below_minimum"),
        *("per_source", "per_label", "rows_in_other_languages_share"),
    }
    assert metrics["per_source"]["empty"] == {"rows_in": 1, "rows": 0}
    assert (metrics["sources"], metrics["rows"], mail["rows"], shop["rows"]) == (3, 6, 3, 3)
    assert metrics["authenticity"] == {"real": 3, "generated": 3, "augmented": 2}
    assert shop["authenticity"] == {"real": 0, "generated": 3, "augmented": 0}
    assert mail["characters"] == {"q05": 25.0, "q50": 28.0, "q95": 28.0}
    assert mail["words"] == {"q05": 5.0, "q50": 5.0, "q95": 6.0}
    assert mail["vocabulary"] == {"words": 16, "types": 13}
    assert shop["language_share"] == pytest.approx({"de": 1 / 3, "en": 1 / 3, "und": 1 / 3}, abs=1e-6)
    assert mail["language_share"] == {"en": 1.0}


def test_volume_and_balance_of_the_labels() -> None:
    _, metrics = run()
    assert metrics["per_label"] == {"card": {"rows": 3}, "refund": {"rows": 2}}
    assert (metrics["labels"], metrics["labels_below_minimum"]) == (2, 1)
    assert metrics["rows_without_label"] == 1
    assert metrics["normalised_label_entropy"] == pytest.approx(0.970951, abs=1e-6)
    # One of two labels, and nothing of the other.
    assert metrics["per_source"]["mail"]["normalised_label_entropy"] == 0


def test_terms_that_are_not_stated_say_so() -> None:
    out, _ = run()
    columns = ["name", "licence", "retrieved", "rows_in", "rows_ingested", "rows_clean"]
    assert out["sources"].select(columns).rows() == [
        ("mail", "MIT", "2026-11-22", 5, 4, 3),
        ("shop", "not stated", "not stated", 3, 3, 3),
        ("empty", "MIT", "not stated", 1, 0, 0),
    ]


def test_tables() -> None:
    out, _ = run()
    assert out["least_alike"].height == 6
    assert out["least_alike"]["neighbour_cosine"].is_sorted()
    assert out["least_alike"].columns == ["id", "source", "label", "neighbour_cosine", "text"]


def test_one_row_of_one_source() -> None:
    write_inputs({"mail": ["hello"]}, {"mail": [None]})
    out, metrics = run()
    assert metrics["labels"] == metrics["labels_below_minimum"] == 0
    assert "normalised_label_entropy" not in metrics
    assert metrics["vocabulary"] == {"words": 1, "types": 1}
    assert out["least_alike"].height == 0


def test_a_row_without_an_embedding_is_named() -> None:
    table = pl.read_parquet("data/embeddings/embeddings.parquet")
    table.tail(5).write_parquet("data/embeddings/embeddings.parquet")
    with pytest.raises(InputError, match=r"no embedding for 1 row.*'mail:0'"):
        profile.main()
    assert not Path("data/profile").exists()


@pytest.mark.parametrize("swedish", [True, False])
def test_rows_in_a_language_that_the_encoder_does_not_know_are_said(
    capsys: pytest.CaptureFixture[str], swedish: bool
) -> None:
    rows = ["Var är mitt paket, snälla ni?", "Jag vill gärna ha pengarna tillbaka", "Kortet fungerar inte längre idag"]
    write_inputs({"mail": rows if swedish else TEXTS["mail"], "shop": TEXTS["shop"]})
    share = 4 / 6 if swedish else 1 / 6
    assert run()[1]["rows_in_other_languages_share"] == pytest.approx(share, abs=1e-6)
    assert ("profile: 67% of rows look sv/de, the encoder is en: set an `hf:`" in capsys.readouterr().err) == swedish
