"""The figures of docs/approaches.md are those of its JSON file; `python -m tests.test_approach_figures` writes them."""

from pathlib import Path

from assay.core.outputs import read_json, write_text
from tests.test_label_error_figures import between, table

REPOSITORY = Path(__file__).parents[1]
DOC = REPOSITORY / "docs/approaches.md"
NAME = "banking77"


def banking77() -> str:
    figures = read_json(REPOSITORY / "docs/approaches_banking77.json")
    rows = [
        [
            f"`{name}`",
            f"{of['accuracy']:.2%} [{of['accuracy_ci95_low']:.2%}, {of['accuracy_ci95_high']:.2%}]",
            f"{of['macro_f1']:.3f}",
            f"{of['train_seconds']:,.0f}",
            f"{of['trainable_parameters']:,}",
            f"{of['artefact_mib']:.1f}",
            f"{of['inference_ms_per_row']:.1f}",
        ]
        for name, of in sorted(figures["approaches"].items(), key=lambda item: -item[1]["accuracy"])
    ]
    header = ["approach", "accuracy [95% interval]", "macro-F1", "train, s", "parameters trained", "MiB on disk"]
    note = (
        f"{figures['rows_train']:,} rows trained on, {figures['rows_validation']:,} held out; {figures['precision']}."
    )
    return f"{table([*header, 'inference, ms a row'], rows)}\n\n{note}"


def test_the_figures_are_those_of_the_file() -> None:
    assert between(NAME, DOC.read_text(encoding="utf-8")) == banking77()


if __name__ == "__main__":
    before, _, rest = DOC.read_text(encoding="utf-8").partition(f"<!-- {NAME} -->\n")
    _, end, after = rest.partition(f"<!-- /{NAME} -->")
    write_text(DOC, f"{before}<!-- {NAME} -->\n{banking77()}\n{end}{after}")
