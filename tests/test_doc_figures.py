"""The figures of docs/ are those of metrics/; `python -m tests.test_doc_figures` writes them between their markers."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.core.outputs import read_json, write_text
from assay.report.numbers import number
from assay.report.page import templates_beside
from assay.statistics.metrics_dict import leaves

pytestmark = pytest.mark.figures

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
METRICS = REPOSITORY / "metrics"


def markdown_table(header: Sequence[str], body: list[list[str]]) -> str:
    """Results as a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def below(folder: str) -> dict[str, Any]:
    """The files of a folder of metrics, by name."""
    return {file.stem: read_json(file) for file in sorted((METRICS / folder).glob("*.json"))}


def interval(of: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A score of a metrics file with its interval."""
    low, high = (format(of[f"{name}_ci95_{end}"], form) for end in ("low", "high"))
    return f"{of[name]:{form}} [{low}, {high}]"


def shown(of: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A score with its interval, minus signs as they are printed; `–` where there is none."""
    return "–" if of.get(name) is None else interval(of, name, form).replace("-", "−")


def approaches() -> str:
    rows = []
    for name, of in sorted(below("evaluate").items(), key=lambda item: -item[1]["macro_f1"]):
        trained, cost = (read_json(METRICS / folder / f"{name}.json") for folder in ("finetune", "cost/finetune"))
        spent = [cost["train_seconds"], cost["peak_memory_mib"], trained["trainable_parameters"]]
        inference = read_json(METRICS / "cost/evaluate" / f"{name}.json")
        spent += [trained["artefact_mib"], inference["inference_ms_per_row"]]
        rows.append([f"`{name}`", interval(of, "macro_f1"), *map(number, spent)])
    header = ["approach", "macro-F1 [95% interval]", "training, s", "peak, MiB", "parameters trained", "MiB on disk"]
    return markdown_table([*header, "ms a row"], rows)


def robustness() -> str:
    rows = []
    figures = below("robustness")
    for name, of in figures.items():
        if "left_out" in of:
            continue
        changes, attacks = of["perturbations"], of["attacks"]
        rows.append(
            [
                f"`{name}`",
                *(interval(changes[recipe], "accuracy_difference", "+.3f") for recipe in changes),
                *(f"{attack['succeeded']} of {attack['attacked']}" for attack in attacks.values()),
            ]
        )
    recipes = [f"accuracy under `{recipe}`" for recipe in next(iter(figures.values()))["perturbations"]]
    attacks = [f"`{attack}` succeeds" for attack in next(iter(figures.values()))["attacks"]]
    return markdown_table(["approach", *recipes, *attacks], rows)


def sft() -> str:
    rows = []
    for name, of in below("sft").items():
        if "left_out" in of:
            rows.append([f"`{name}`", of["left_out"], "", "", "", "", ""])
            continue
        loss = f"{of['validation_loss_before']:.3f} → {of['validation_loss']:.3f}"
        trained = f"{of['trainable_parameters']:,}"
        cost = read_json(METRICS / "cost/sft" / f"{name}.json")
        costs = [f"{cost[key]:,.0f}" for key in ("train_seconds", "tokens_per_second", "peak_memory_mib")]
        rows.append([f"`{name}`", loss, trained, *costs, f"{of['artefact_mib']:,.1f}"])
    header = ["approach", "validation loss, nats a token", "parameters trained", "seconds", "tokens/s", "peak, MiB"]
    return markdown_table([*header, "MiB on disk"], rows)


def reward_model() -> str:
    of = read_json(METRICS / "optional/reward.json")
    parts = {"all": of} | {f"`{name}`": part for name, part in of["by_source"].items()}
    counts = [(name, part["pairs"], round(part["accuracy"] * part["pairs"])) for name, part in parts.items()]
    rows = [
        [name, f"{right} of {pairs}", shown(parts[name], "accuracy", ".1%") if pairs >= 30 else "–"]
        for name, pairs, right in counts
    ]
    return markdown_table(["pairs", "right", "share [95% interval]"], rows)


def from_template(name: str) -> Callable[[], str]:
    """What a macro of tests/doc_figures.jinja writes; it has the metrics files by `read`, {} where there is none."""
    templates = templates_beside(__file__, autoescape=False)
    templates.globals["read"] = lambda of: read_json(file) if (file := METRICS / f"{of}.json").is_file() else {}
    templates.filters["shown"] = shown
    return lambda: str(getattr(templates.get_template("doc_figures.jinja").module, name)()).strip()


def human_noise() -> str:
    grade = read_json(METRICS / "label_errors.json")["grade"]
    keys = ("auroc", "precision_at_5pct", "recall_at_10pct")
    others = ("per_source", "baselines", "differences")
    scores = {f"`{name}`": of for name, of in grade.items() if isinstance(of, dict) and name not in others}
    scores = {"`without_evidence`": scores["`without_evidence`"]} | scores
    scores |= {f"baseline `{name}`": of for name, of in grade["baselines"].items()}
    scores |= {f"`label_quality`, {name}": of for name, of in grade["per_source"].items()}
    name = "average_precision"
    rows = [
        [
            score,
            interval(of, name) if f"{name}_ci95_low" in of else f"{of[name]:.3f}",
            *(f"{of[key]:.3f}" for key in keys),
        ]
        for score, of in scores.items()
    ]
    rows += [[score.replace("_", " "), shown(of, name), "", "", ""] for score, of in grade["differences"].items()]
    header = ["score", "average precision", "AUROC", "precision of the 5% trusted least", "recall of the 10%"]
    found = f"Noise: {grade['noise_rate']:.1%} of {grade['rows']:,} rows. Flagged: precision {grade['precision']:.3f},"
    return f"{markdown_table(header, rows)}\n\n{found} recall {grade['recall']:.3f}."


def coverage() -> str:
    found = read_json(DOCS / "statistics_coverage.json")["cases"]
    covered = {"macro_f1": "macro-F1", "accuracy": "accuracy", "brier_score": "Brier", "log_loss": "log loss"}
    covered |= {"macro_f1_difference": "difference, macro-F1", "accuracy_difference": "difference, accuracy"}
    tests = {"decided": "bootstrap finds", "mcnemar": "McNemar finds", "holm_family": "Holm finds"}

    def percent(case: str, key: str) -> str:
        # Where one model is better there is something to find.
        is_shown = key in found[case] and not ("gain" in case and key.endswith("found"))
        return f"{100 * found[case][key]:.1f}" if is_shown else "–"

    keys = {f"{key}_covered": name for key, name in covered.items()} | {f"{key}_found": of for key, of in tests.items()}
    return markdown_table(
        ["test sets", *keys.values()], [[case, *(percent(case, key) for key in keys)] for case in found]
    )


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "ablation": {"steps": from_template("steps")},
    "approaches": {"approaches": approaches},
    "augmentation": {"robustness": robustness},
    "generation": {"sft": sft, "reward": reward_model}
    | {name: from_template(name) for name in ("policies", "canaries")},
    "learning_curve": {"curves": from_template("curves")},
    "label_errors": {"human": human_noise},
    "statistics": {"coverage": coverage},
}
"""What makes the text of each pair of markers of a document, by their name."""


def split_at_markers(doc: str, name: str) -> tuple[str, str, str]:
    """The text of a document before, between and after the markers of a name."""
    text = (DOCS / f"{doc}.md").read_text(encoding="utf-8")
    found = re.fullmatch(rf"(.*<!-- {name} -->\n)(.*?)(\n<!-- /{name} -->.*)", text, re.DOTALL)
    assert found is not None
    return found[1], found[2], found[3]


@pytest.mark.parametrize(("doc", "name"), [(doc, name) for doc, parts in PARTS.items() for name in parts])
def test_the_figures_are_those_of_their_files(doc: str, name: str) -> None:
    assert split_at_markers(doc, name)[1] == PARTS[doc][name]()


def test_no_committed_interval_has_zero_width() -> None:
    files = [file for file in METRICS.rglob("*.json") if "predictions" not in file.parts]
    ends = dict(leaves({str(file): read_json(file) for file in files}))
    lows = [path for path, end in ends.items() if path.endswith("_ci95_low") and end is not None]
    assert [path for path in lows if not ends[path] < ends[path.removesuffix("low") + "high"]] == []


if __name__ == "__main__":
    for doc, parts in PARTS.items():
        for name, make in parts.items():
            before, _, after = split_at_markers(doc, name)
            write_text(DOCS / f"{doc}.md", f"{before}{make()}{after}")
