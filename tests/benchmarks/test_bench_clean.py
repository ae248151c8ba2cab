"""All cleaning rules on a million rows: rows a second, and peak memory beside that of 100,000 rows.

Every rule is on; so are the limit on tokens and the filter of languages. Each
run is a process of its own, from Parquet to Parquet, up to where duplicates would be looked for. What is printed with
the benchmark (`extra_info`) is the measurement; that memory stays flat is asserted, times are not.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.million_rows import Truth
from tests.own_process import measure
from tests.template_params import read_template_params

MEASURE = """
import json, os, re, sys, time
from pathlib import Path
from assay.cleaning.row_cleaning import clean_texts
from assay.cleaning.rules import CleanParams
from assay.core.params import load_params
from assay.core.row_batches import joined_parts
params = load_params("clean", CleanParams)
start = time.perf_counter()
clean_texts(Path(sys.argv[1]), params, Path("parts"))
seconds = time.perf_counter() - start
own, peak_kib = {os.getpid()}, 0
for path in sorted(Path("/proc").glob("[0-9]*/status"), key=lambda path: int(path.parent.name)):
    status = path.read_text()
    # The processes that cleaned are still there, waiting for more.
    if int(path.parent.name) in own or int(re.search(r"PPid:\\s+(\\d+)", status).group(1)) in own:
        own.add(int(path.parent.name))
        peak_kib += int((re.search(r"VmHWM:\\s+(\\d+)", status) or [0, 0])[1])
changed = joined_parts(Path("parts/changed")).group_by("rule").len().sort("rule").collect()
print(json.dumps({"seconds": seconds, "peak_mib": peak_kib / 1024, "changed": dict(changed.rows())}))
"""
"""The sum of the peaks of all processes. Not `ru_maxrss`: one that is started by a large one takes over its peak."""


def every_rule_on(repository: Path) -> dict[str, Any]:
    """The committed params with every rule on."""
    params = read_template_params()
    section = params["clean"]
    section["rules"] = dict.fromkeys(section["rules"], True)
    section["rule_settings"] |= {"patterns": ["(?i)click here to win[a-z ]*", "(?m)^ADVERTISEMENT:.*$"]}
    section["languages"] = {"keep": ["en"], "min_probability": 0.6, "min_characters": 30}
    section["max_tokens"] = {"tokenizer": str(repository / section["max_tokens"]["tokenizer"]), "tokens": 512}
    return params


def measured(path: Path, folder: Path, repository: Path) -> dict[str, Any]:
    """Clean a table in a process of its own, in `folder`."""
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(every_rule_on(repository), sort_keys=False))
    return measure("-c", MEASURE, str(path), cwd=folder)


@pytest.mark.timeout(1200)
def test_every_rule_on_a_million_rows(
    benchmark: BenchmarkFixture,
    million_rows: tuple[Path, Truth],
    hundred_thousand_rows: tuple[Path, Truth],
    repository: Path,
    tmp_path: Path,
) -> None:
    if not (repository / "models/base/minilm/tokenizer.json").exists():
        pytest.skip("the tokenizer is not there: run `make repro` first")
    fewer = measured(hundred_thousand_rows[0], tmp_path / "fewer", repository)
    more = benchmark.pedantic(measured, args=(million_rows[0], tmp_path / "more", repository), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= {
        "rows_per_second": round(1_000_000 / more["seconds"]),
        "peak_mib": {"100,000 rows": round(fewer["peak_mib"]), "1,000,000 rows": round(more["peak_mib"])},
        "changed": more["changed"],
    }
    # 100,000 rows are one batch, in one process; a million are cleaned by one process a core, started by another.
    assert more["peak_mib"] < 3 * fewer["peak_mib"]
    assert more["peak_mib"] < 4096
    fires_on_nothing = {"remove_matches", "redact_url_credentials", "collapse_white_space"}
    assert set(every_rule_on(repository)["clean"]["rules"]) - fires_on_nothing <= set(more["changed"])
