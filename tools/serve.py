"""Serve a classifier over HTTP until Ctrl-C: `make serve MODEL=full`.

MODEL is an approach of params.yaml, or a folder. On 127.0.0.1, unless ARGS="--host 0.0.0.0" says otherwise; then
ASSAY_TOKEN has to be set. Needs the extra `serve`. docs/serving.md has the requests.
"""

import os
import re
from importlib.util import find_spec

from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.inference.serve_params import LOCAL, ServeParams
from tools.changes.staleness import dvc_hash
from tools.command_line import command_line
from tools.predict import load_model
from tools.review.feedback import POSTED, add_posted
from tools.review.server import HOST, listening

PORT = 8780


def require_token(host: str, token: str | None) -> None:
    """Raise `InputError` where others reach an address without a token, or it is one that can be guessed."""
    if token is None and host not in LOCAL:
        raise InputError(f"--host {host}: others reach it, so set ASSAY_TOKEN, which requests have to send")
    if token is not None and not re.fullmatch(r"[!-~]{16,}", token):
        raise InputError("ASSAY_TOKEN: at least 16 characters, ASCII without white space, are needed")


def main() -> None:
    """Load the model, and serve."""
    parser = command_line("make serve", __doc__, whole=True)
    parser.add_argument("model", help="an approach, or a folder")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0 takes a free one")
    parser.add_argument("--precision", type=float, help="wanted of what is sure; default: `inference` of params.yaml")
    arguments = parser.parse_args()
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise InputError("no package starlette or uvicorn: `.venv/bin/pip install -e '.[serve]'`")
    params, host, token = load_params("serve", ServeParams), arguments.host, os.environ.get("ASSAY_TOKEN")
    require_token(host, token := token and token.strip())
    taken = listening(arguments.port, host, f"make serve MODEL={arguments.model}")
    folder, classifier = load_model(arguments.model, arguments.precision)
    # Imported here: not everybody has its packages.
    from assay.inference import serve

    classifier.predict(["Does it answer?"])
    about = {"model": arguments.model, "model_md5": dvc_hash(folder)}
    app = serve.make_app(classifier.predict, classifier.labels, about, params, add_posted, host, token)
    address = f"http://{f'[{host}]' if ':' in host else host}:{taken.getsockname()[1]}"
    print(f"serve: {arguments.model} at {address}; corrections go to {POSTED}; Ctrl-C ends", flush=True)
    serve.serve(app, taken, params)


if __name__ == "__main__":
    run_stage(main)
