import pytest

from assay.core.errors import InputError
from tools.review.server import listening
from tools.serve import require_token


@pytest.mark.parametrize(
    ("host", "token", "sentence"),
    [
        ("192.0.2.1", None, r"--host 192\.0\.2\.1: others reach it, so set ASSAY_TOKEN, which requests have to send"),
        ("127.0.0.1", "short", "ASSAY_TOKEN: at least 16 characters, ASCII without white space, are needed"),
        ("127.0.0.1", "two words, of 20 characters", "ASSAY_TOKEN: at least 16 characters"),
    ],
)
def test_who_is_let_in_without_a_token_or_by_a_weak_one(host: str, token: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        require_token(host, token)
    require_token("localhost", None)
    require_token("192.0.2.1", "0123456789abcdef")


def test_an_address_of_another_machine_cannot_be_had() -> None:
    with pytest.raises(InputError, match=r'192\.0\.2\.1:80: .*; else take another: make serve ARGS="--port 81"'):
        listening(80, "192.0.2.1", "make serve")
