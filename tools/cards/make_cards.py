"""Cards of models and of the data: what they are, where they come from and how good they are, with the hub's header.

`make card` writes `cards/DATA_CARD.md` and `cards/<approach>/MODEL_CARD.md` of each approach that ran, `make card
MODEL=full` that of one; `make merge` puts both beside the weights. All that they say is from `dvc.lock`,
`params.yaml` and `metrics/`, of these data and params alone. The folder `cards/` is for git: what people write there
between the generated parts stays. A card in `models/finetuned/`, an output of DVC, would make `finetune` run again.

Texts of params and data are escaped, so that none becomes markup. Nothing is sent to the hub, not even to check a card.
"""

import html
import re
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from huggingface_hub import RepoCard
from markupsafe import Markup

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.core.params import DEFAULTS, PARAMS_FILE, read_yaml
from assay.core.results import ABLATION, lookup, metrics_files, read_own
from assay.fine_tuning.params import BASELINES
from assay.report import sections, wording
from assay.report.comparison import say_verdict
from assay.report.page import templates_beside
from assay.report.summary import COSTS, METRICS, ROW_STAGES
from assay.statistics.metrics_dict import leaves
from tools.command_line import command_line

CARDS = Path("cards")
PART = re.compile(r"<!-- generated: (\w+).*? -->\n.*?<!-- /generated: \1 -->\n", re.DOTALL)
"""A generated part, and its name."""
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


def render(template: str, values: Values) -> str:
    """A card. A value that is missing is an error."""
    environment = templates_beside(__file__, autoescape=True).overlay(finalize=escape_markdown)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters["link"] = link
    environment.globals |= {"sections": sections, "wording": wording, "row_stages": ROW_STAGES}
    environment.globals |= {"leaves": leaves, "say_verdict": say_verdict}
    text = re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(values))
    return str(RepoCard(text).content)


def is_in(path: str | None, asset: Values) -> bool:
    """Whether a path is that of an asset, or below it."""
    return f"{path}/".startswith(f"{asset['path']}/")


def read_values() -> Values:
    """What both cards are made of; the metrics of a stage that did not run on these data and params are empty."""
    params = read_yaml(PARAMS_FILE)
    lock = Path("dvc.lock")
    stages = read_yaml(lock)["stages"].values() if lock.is_file() else ()
    files = [one for part in ("deps", "outs") for stage in stages for one in stage.get(part, ())]
    assets = list((lookup(params, "fetch.assets") or {}).values())
    return {
        "params": params,
        "metrics": {stage: read_own(file) or {} for stage, file in (metrics_files() | metrics_files(ABLATION)).items()},
        "hashes": {one["path"]: one.get("md5", "").removesuffix(".dir") for one in files},
        "assets": assets,
        "sources": lookup(params, "ingest.sources") or [],
        "data_assets": [one for one in assets if is_in(lookup(params, "ingest.path"), one)],
    }


def model_card(name: str, kind: str, values: Values) -> str:
    """The card of the model of an approach below `models/<kind>`: `finetuned` or `merged`."""
    block = lookup(values["params"], f"finetune.{name}") or {"method": "unknown"}
    defaults, known = lookup(values["params"], f"finetune.{DEFAULTS}") or {}, BASELINES.get(block["method"])
    block = {key: value for key, value in defaults.items() if known is None or key in known.model_fields} | block
    files = [COSTS / f"{stage}/{name}.json" for stage in ("finetune", "evaluate")]
    confusion = METRICS / f"plots/confusion/{name}.csv"
    table = pl.read_csv(confusion, infer_schema=False) if confusion.is_file() else None
    of_model = {
        "name": name,
        "kind": kind,
        "block": block,
        "base": next((one for one in values["assets"] if is_in(block.get("model"), one)), None),
        "of": {one: values["metrics"].get(f"{one}@{name}", {}) for one in ("finetune", "evaluate", "robustness")},
        "confusion": table,
        "confused": [] if table is None else most_confused(table),
        "costs": {key: value for file in files if file.is_file() for key, value in read_json(file).items()},
    }
    return render("model_card.md.jinja", values | of_model)


def most_confused(confusion: pl.DataFrame) -> list[tuple[str, str, int, float]]:
    """Pairs (actual, predicted, rows, share of the actual label's rows) that differ, most rows first."""
    pairs = confusion.with_columns(rows=pl.len().over("actual", "predicted"), of=pl.len().over("actual")).unique()
    pairs = pairs.filter(pl.col("actual") != pl.col("predicted")).sort(
        "rows", "actual", "predicted", descending=[True, False, False]
    )
    return pairs.select("actual", "predicted", "rows", share=pl.col("rows") / pl.col("of")).head(5).rows()


def renew(old: str, new: str, path: Path) -> str:
    """The card `new` with what people wrote into `old`, which lies at `path`, outside the generated parts.

    Of the header, keys that people added stay, and a licence that they gave.

    Raises `InputError`: its header is no mapping, or the markers of a generated part are not there once each, in order.
    """
    try:
        theirs: Any = RepoCard(old)
        ours: Any = RepoCard(new)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: its header is no mapping in YAML ({error}); mend it, or delete the file") from None
    there, fresh = ({part[1]: part[0] for part in PART.finditer(card.text)} for card in (theirs, ours))
    if len(re.findall("<!-- /?generated: ", theirs.text)) != 2 * len(there):
        raise InputError(
            f"{path}: a generated part needs one line `<!-- generated: NAME -->` and below it one line "
            "`<!-- /generated: NAME -->`; restore them, or delete the file"
        )
    header, given = ours.data.to_dict(), theirs.data.to_dict()
    if "license" in given:
        header.pop("license_name", None)
    stays = {key: value for key, value in given.items() if key not in header or key.startswith("license")}
    theirs.data = type(theirs.data)(**header | stays)
    text = PART.sub(lambda part: fresh.get(part[1], ""), theirs.text)
    theirs.text = "\n".join([text, *(fresh[name] for name in fresh if name not in there)])
    return str(theirs.content)


def write_cards(values: Values, names: list[str], kind: str, folder: Path | None = None) -> None:
    """Write the cards of the data and of models to `CARDS`, or to a folder, with what people wrote into the former."""
    cards = {CARDS / "DATA_CARD.md": render("data_card.md.jinja", values)}
    cards |= {CARDS / name / "MODEL_CARD.md": model_card(name, kind, values) for name in names}
    for file, new in cards.items():
        written = folder / file.name if folder else file
        write_text(written, renew(file.read_text(encoding="utf-8"), new, file) if file.is_file() else new)
        print(f"{written}: written")


def main() -> None:
    """Write the cards of the data and of the models that ran, or of one of them."""
    parser = command_line("make card", __doc__)
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
