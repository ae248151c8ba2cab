from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from assay.core.outputs import read_json
from assay.embeddings.encoder import mean_pooled
from stages import embed
from tests.own_params import COMPUTE

TEXTS = ["good card", "the bank is awful today", "x", "money " * 40, "card"]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, tiny_encoder: Path) -> None:
    params = {
        "compute": COMPUTE,
        "embed": {"model": str(tiny_encoder), "max_length_tokens": 16, "batch_size": 2, "last_layers": 5},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    rows = pl.DataFrame({"id": list("edcba"), "text": TEXTS})
    for table, part in {"records": rows.head(3), "unlabelled": rows.tail(2)}.items():
        part.write_parquet(f"data/clean/{table}.parquet", mkdir=True)


def test_padding_does_not_count_in_the_mean() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    assert mean_pooled(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_embeddings_are_those_of_each_text_alone(tiny_encoder: Path) -> None:
    embed.main()
    table = pl.read_parquet("data/embeddings/embeddings.parquet")
    assert table["id"].to_list() == list("edcba")
    assert table.schema["embedding"] == pl.Array(pl.Float32, 32)
    model, tokenizer = AutoModel.from_pretrained(tiny_encoder).eval(), AutoTokenizer.from_pretrained(tiny_encoder)
    for text, embedding in zip(TEXTS, table["embedding"].to_numpy(), strict=True):
        encoded = tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
        with torch.inference_mode():
            vector = model(**encoded).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(embedding, vector / np.linalg.norm(vector), atol=1e-6)
    layers = pl.read_parquet("data/embeddings/layers.parquet")["embedding"].to_numpy()
    assert layers.shape == (5, 32 * model.config.num_hidden_layers)
    np.testing.assert_allclose(layers[:, -32:], table["embedding"].to_numpy(), atol=1e-6)
    metrics = read_json("metrics/embed.json")
    assert (metrics["rows_in"], metrics["rows_out"], metrics["truncated_rows"]) == (5, 5, 1)
