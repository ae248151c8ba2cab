"""Cards of models and of the data: what they are, where they come from and how good they are, with the hub's header.

`make card` writes `cards/DATA_CARD.md` and `cards/<approach>/MODEL_CARD.md` of each approach that ran, `make card
MODEL=full` that of one; `make merge` and `make onnx` put both beside the weights. All that they say is from `dvc.lock`,
`params.yaml` and `metrics/`, of these data and params alone. The folder `cards/` is for git: what people write there
between the generated parts stays. A card in `models/finetuned/`, an output of DVC, would make `finetune` run again.

Texts of params and data are escaped, so that none becomes markup. Nothing is sent to the hub, not even to check a card.
"""

import argparse
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import yaml
from huggingface_hub import RepoCard
from markupsafe import Markup

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.core.params import DEFAULTS, PARAMS_FILE, parse_yaml
from assay.core.results import lookup, metrics_files, read_own
from assay.report import numbers, sections, wording
from assay.report.comparison import say_verdict
from assay.report.summary import BASELINE_METHODS, COSTS, METRICS, ROW_STAGES, show_interval
from assay.statistics.metrics_dict import leaves

CARDS = Path("cards")
PART = re.compile(r"<!-- generated: (\w+)(?: ([0-9a-f]{12}))? -->\n(.*?)<!-- /generated: \1 -->\n", re.DOTALL)
"""A generated part: its name, the digest of its content as it was made, and the content."""
MAX_CHARACTERS = 500
"""Of a text of params or data that is shown."""
Values = dict[str, Any]


def escape_markdown(value: object) -> Markup:
    """A value as Markdown text on one line: no markup, link, table cell or comment comes of it."""
    if isinstance(value, Markup):
        return value
    flat = re.sub(r"\s+", " ", str(value))
    flat = flat if len(flat) <= MAX_CHARACTERS else f"{flat[:MAX_CHARACTERS]} …"
    special = r"[\\`*{}|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=[(\[:])|:(?=//)|(?<=www)\."
    # Of < > and & come entities, in which there is none of these.
    return Markup(re.sub(special, r"\\\g<0>", html.escape(flat, quote=False)))


def link(address: str | None) -> Markup:
    """A web address as a link, without a name and password in it; anything else as text."""
    shown = re.sub(r"//[^/@\s]*@", "//", address or "no address stated")
    is_safe = re.fullmatch(r"https?://[\w.~:/?#%&=+,;-]+", shown)
    return Markup(f"<{shown}>") if is_safe else escape_markdown(shown)


def digest(text: str) -> str:
    """12 hexadecimal digits that change with the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def render(template: str, values: Values) -> str:
    """A card; generated parts get the digests of their contents. A value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=escape_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {"number": numbers.number, "score": numbers.score, "link": link, "interval": show_interval}
    environment.globals |= {"sections": sections, "wording": wording, "row_stages": ROW_STAGES}
    environment.globals |= {"leaves": leaves, "say_verdict": say_verdict}
    text = re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(values))
    marked = PART.sub(lambda part: part[0].replace(" -->", f" {digest(part[3])} -->", 1), text)
    return str(RepoCard(marked).content)


def is_in(path: str | None, asset: Values) -> bool:
    """Whether a path is that of an asset, or below it."""
    return f"{path}/".startswith(f"{asset['path']}/")


def read_values() -> Values:
    """What both cards are made of; the metrics of a stage that did not run on these data and params are empty."""
    params = parse_yaml(PARAMS_FILE.read_text(encoding="utf-8"))
    lock = Path("dvc.lock")
    stages = parse_yaml(lock.read_text(encoding="utf-8"))["stages"].values() if lock.is_file() else ()
    files = [one for part in ("deps", "outs") for stage in stages for one in stage.get(part, ())]
    assets = list((lookup(params, "fetch.assets") or {}).values())
    return {
        "params": params,
        "metrics": {stage: read_own(file) or {} for stage, file in metrics_files().items()},
        "hashes": {one["path"]: one.get("md5", "").removesuffix(".dir") for one in files},
        "assets": assets,
        "sources": lookup(params, "ingest.sources") or [],
        "data_assets": [one for one in assets if is_in(lookup(params, "ingest.path"), one)],
    }


def model_card(name: str, kind: str, values: Values) -> str:
    """The card of the model of an approach below `models/<kind>`: `finetuned`, `merged` or `onnx`."""
    block = lookup(values["params"], f"finetune.{name}") or {"method": "unknown"}
    if block["method"] not in BASELINE_METHODS:
        block = (lookup(values["params"], f"finetune.{DEFAULTS}") or {}) | block
    files = [COSTS / f"{stage}/{name}.json" for stage in ("finetune", "evaluate")]
    confusion = METRICS / f"plots/confusion/{name}.csv"
    of_model = {
        "name": name,
        "kind": kind,
        "block": block,
        "base": next((one for one in values["assets"] if is_in(block.get("model"), one)), None),
        "of": {one: values["metrics"].get(f"{one}@{name}", {}) for one in ("finetune", "evaluate", "robustness")},
        "confusion": pl.read_csv(confusion, infer_schema=False) if confusion.is_file() else None,
        "costs": {key: value for file in files if file.is_file() for key, value in read_json(file).items()},
    }
    return render("model_card.md.jinja", values | of_model)


def renew(old: str, new: str, path: Path) -> tuple[str, list[str]]:
    """The card `new` with what people wrote into `old`, which lies at `path`; and what is to be said of it.

    Of the header, keys that people added stay, and a licence that they gave.

    Raises `InputError`: its header is no mapping, or the markers of a generated part are not there once each, in order.
    """
    try:
        theirs: Any = RepoCard(old)
        ours: Any = RepoCard(new)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: its header is no mapping in YAML ({error}); mend it, or delete the file") from None
    parts = {part[1]: part for part in PART.finditer(theirs.text)}
    if any(theirs.text.count(f"<!-- {end}generated: ") != len(parts) for end in ("", "/")):
        raise InputError(
            f"{path}: a generated part needs one line `<!-- generated: NAME … -->` and below it one line "
            "`<!-- /generated: NAME -->`; restore them, or delete the file"
        )
    fresh = {part[1]: part[0] for part in PART.finditer(ours.text)}
    header, given = ours.data.to_dict(), theirs.data.to_dict()
    if "license" in given:
        header.pop("license_name", None)
    stays = {key: value for key, value in given.items() if key not in header or key.startswith("license")}
    said = [f"{name} changed by hand, overwritten" for name, part in parts.items() if digest(part[3]) != part[2]]
    said += [f"{name} was missing, at the end now" for name in fresh if name not in parts]
    said += [f"header: {key} renewed" for key in header if key not in stays and header[key] != given.get(key)]
    said += [f"header: {key} stays {stays[key]!r}" for key in stays if stays[key] != header.get(key, stays[key])]
    theirs.data = type(theirs.data)(**header | stays)
    text = PART.sub(lambda part: fresh.get(part[1], ""), theirs.text)
    theirs.text = "\n".join([text, *(fresh[name] for name in fresh if name not in parts)])
    return str(theirs.content), said


def write_cards(values: Values, names: list[str], kind: str, folder: Path | None = None) -> None:
    """Write the cards of the data and of models to `CARDS`, and say what was done to those that lay there.

    With a folder they are written into that, with what people wrote into those in `CARDS`.
    """
    cards = {CARDS / "DATA_CARD.md": render("data_card.md.jinja", values)}
    cards |= {CARDS / name / "MODEL_CARD.md": model_card(name, kind, values) for name in names}
    for file, new in cards.items():
        text, said = renew(file.read_text(encoding="utf-8"), new, file) if file.is_file() else (new, [])
        write_text(folder / file.name if folder else file, text)
        if folder is None:
            print("; ".join([f"{file}: written", *said]))


def main() -> None:
    """Write the cards of the data and of the models that ran, or of one of them."""
    parser = argparse.ArgumentParser(prog="make card", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="one of `approaches` in params.yaml (default: all that ran)")
    wanted = parser.parse_args().model
    values = read_values()
    measured = {name: values["metrics"][f"evaluate@{name}"] for name in lookup(values["params"], "approaches") or []}
    ran = [name for name, found in measured.items() if found and "left_out" not in found]
    if wanted and wanted not in ran:
        why = measured.get(wanted, {}).get("left_out", "no approach that ran on these data and params")
        raise InputError(f"{wanted}: no card: {why}; cards can be made of {', '.join(ran) or 'none: `make repro`'}")
    write_cards(values, [wanted] if wanted else ran, "finetuned")
    if skipped := [name for name in measured if name not in ran]:
        print(f"no card, since not run on these data and params, or not on this machine: {', '.join(skipped)}")


if __name__ == "__main__":
    run_stage(main)
