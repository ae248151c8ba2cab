from pathlib import Path

import pytest

from assay.core.errors import InputError
from assay.inference import load
from stages import finetune
from tests.http_load import ask, request, serving
from tests.own_cases import read_cases
from tests.own_params import change
from tests.own_process import run_main
from tests.stages.test_finetune import workspace as workspace
from tests.template_params import read_template_params
from tools.changes.staleness import dvc_hash
from tools.serve import require_token


@pytest.mark.parametrize(
    ("host", "token", "sentence"), read_cases(__file__)["who_is_let_in_without_a_token_or_by_a_weak_one"]
)
def test_who_is_let_in_without_a_token_or_by_a_weak_one(host: str, token: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        require_token(host, token)
    require_token("localhost", None)
    require_token("192.0.2.1", "0123456789abcdef")


@pytest.mark.slow
@pytest.mark.parametrize("approach", ["tfidf", "full_cls"])
def test_its_answers_are_those_of_the_saved_model(workspace: Path, approach: str) -> None:
    change("", serve=read_template_params()["serve"], inference={"wanted_precision": 0.6})
    run_main(finetune, approach)
    texts = ["great card", "", "awful bank", "a card\nand a bank"]
    folder = Path(f"models/finetuned/{approach}")
    with serving(["-m", "tools.serve", approach, "--port", "0"], workspace) as (port, _):
        status, said = ask(port, request({"texts": texts}))
    found = load(folder).predict(texts).to_dicts()
    assert [row["reason"] for row in found] == [None, "missing_text", None, None]
    assert (status, said) == (200, {"predictions": found, "model": approach, "model_md5": dvc_hash(folder)})
