"""The figures of docs/label_errors.md are those of docs/results_full.json; run me to write them."""

import pytest

from assay.core.outputs import read_json
from tests.doc_figures import REPOSITORY, between, interval, read_full, table, write_parts

pytestmark = pytest.mark.figures

DOC = REPOSITORY / "docs/label_errors.md"


def human() -> str:
    grade = read_full("label_errors.json")["grade"]
    keys = ("average_precision", "auroc", "precision_at_5pct", "recall_at_10pct")
    rows = [
        [f"`{name}`", *(f"{values[key]:.3f}" for key in keys)]
        for name, values in grade.items()
        if isinstance(values, dict) and name != "per_source"
    ]
    rows += [
        [f"`label_quality`, {name}", *(f"{values[key]:.3f}" for key in keys)]
        for name, values in grade["per_source"].items()
    ]
    header = ["score", "average precision", "AUROC", "precision of the 5% trusted least", "recall of the 10%"]
    found = f"Noise: {grade['noise_rate']:.1%} of {grade['rows']:,} rows. Flagged: precision {grade['precision']:.3f},"
    return f"{table(header, rows)}\n\n{found} recall {grade['recall']:.3f}."


def injected() -> str:
    metrics = read_full("optional/injected_noise.json")
    kinds = {kind: shares for kind, shares in metrics.items() if isinstance(shares, dict)}
    shares = list(next(iter(kinds.values())))
    rows = [
        [
            kind.replace("_", " "),
            *(f"{of[share]['average_precision']:.3f} / {of[share]['auroc']:.3f}" for share in shares),
        ]
        for kind, of in kinds.items()
    ]
    return table(["noise", *(share.replace("pct", "%") for share in shares)], rows)


def banking77() -> str:
    figures = read_json(REPOSITORY / "docs/label_errors_banking77.json")
    rows = [
        [
            kind.replace("_", ", "),
            f"{values['label_quality']['average_precision']:.3f} / {values['label_quality']['auroc']:.3f}",
            f"{values['precision']:.3f} / {values['recall']:.3f}",
            f"{values['accuracy_noisy']:.4f}",
            f"{values['accuracy_after_drop']:.4f}",
            f"{values['accuracy_after_weight']:.4f}",
            f"{values['accuracy_exactly_the_wrong_rows_removed']:.4f}",
        ]
        for kind, values in figures.items()
        if isinstance(values, dict)
    ]
    header = ["noise", "average precision / AUROC", "flagged: precision / recall"]
    probe = ["noisy", "after `drop`", "after `weight`", "exactly the wrong rows removed"]
    return table([*header, *probe], rows)


def effect() -> str:
    metrics = read_full("optional/label_effect.json")
    names = {
        "uncorrected": "labels as given",
        "detector_off": "the action off",
        "detector_on": "the action on",
        "detector_off_minus_uncorrected": "difference by corrections",
        "detector_on_minus_detector_off": "difference by the action",
    }

    rows = [[name, interval(metrics[key], "macro_f1", ".4f")] for key, name in names.items() if key in metrics]
    return table(["train rows", "macro-F1 [95% interval]"], rows)


PARTS = {"human": human, "injected": injected, "banking77": banking77, "effect": effect}


@pytest.mark.parametrize("name", PARTS)
def test_the_figures_are_those_of_the_preset_full(name: str) -> None:
    assert between(name, DOC) == PARTS[name]()


if __name__ == "__main__":
    write_parts(DOC, PARTS)
