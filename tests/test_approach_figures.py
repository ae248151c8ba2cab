"""The figures of docs/approaches.md are those of its JSON file; `python -m tests.test_approach_figures` writes them."""

import pytest

from assay.core.outputs import read_json
from tests.doc_figures import REPOSITORY, between, interval, table, write_parts

pytestmark = pytest.mark.figures

DOC = REPOSITORY / "docs/approaches.md"
NAME = "banking77"


def banking77() -> str:
    figures = read_json(REPOSITORY / "docs/approaches_banking77.json")
    rows = [
        [
            f"`{name}`",
            interval(of, "accuracy", ".2%"),
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
    assert between(NAME, DOC) == banking77()


if __name__ == "__main__":
    write_parts(DOC, {NAME: banking77})
