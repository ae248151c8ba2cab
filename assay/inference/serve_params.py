"""Section `serve` of `params.yaml`: what clients may take; beside `serve`, whose packages not everybody has."""

from pydantic import Field

from assay.core.params import Params

LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")


class ServeParams(Params):
    """Section `serve`."""

    max_body_kib: int = Field(ge=1, le=2**20)
    max_texts: int = Field(ge=1)
    max_characters: int = Field(ge=1)
    max_waiting_texts: int = Field(ge=1)
    max_connections: int = Field(ge=1)
    request_seconds: float = Field(gt=0)
    window_milliseconds: float = Field(ge=0)
    batch_texts: int = Field(ge=1)
