#!/usr/bin/env bash
# DVC 3.67.1 with ruamel.yaml 0.19.1: `dvc repro` and `dvc status` parse params.yaml once for every stage, also where
# nothing has changed, and in pure Python: this ruamel.yaml no longer brings the C parser, ruamel.yaml.clib.
#
# Seen: 40 stages with a param each, all up to date: `dvc status` loads params.yaml 41 times and `dvc repro` 42 times,
# by ruamel's Python parser. With `pip install ruamel.yaml.clib` they are the same loads by the C parser,
# in a part of the CPU time (printed, as information: it depends on the size of params.yaml).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" dvc==3.67.1 ruamel.yaml==0.19.1 2>/dev/null
export PATH="$folder/venv/bin:$PATH"
mkdir "$folder/project" && cd "$folder/project"
dvc init --quiet --no-scm && dvc config core.analytics false
for number in $(seq 500); do printf 'section_%d:\n  path: data/%d\n  seeds: [1, 2, 3]\n' "$number" "$number"; done > params.yaml
{
  echo 'stages:'
  for number in $(seq 40); do
    printf '  s%d:\n    cmd: echo 1 > out%d\n    params: [section_%d]\n    outs: [out%d]\n' "$number"{,,,}
  done
} > dvc.yaml
for number in $(seq 40); do echo 1 > "out$number"; done
dvc commit --quiet --force
cat > "$folder/count.py" <<'PYTHON'
"""Run DVC; then say how often ruamel.yaml loaded params.yaml, by which parser, and the CPU seconds of all."""
import sys
import time
from collections import Counter
from pathlib import Path

from dvc.cli import main
from ruamel.yaml import YAML

params, loads, load = Path("params.yaml").read_text(), Counter(), YAML.load


def load_and_count(self, text):
    loads[self.Parser.__module__] += text == params
    return load(self, text)


YAML.load = load_and_count
status = main(sys.argv[1:])
for parser, number in loads.items():
    if number:
        print(f"LOADS {number} {parser} {time.process_time():.1f}")
sys.exit(status)
PYTHON
for parser in python C; do
  for command in status repro; do
    python "$folder/count.py" "$command" > "$folder/said"
    grep -q "up to date" "$folder/said"
    read -r _ loads module seconds < <(grep '^LOADS' "$folder/said")
    echo "dvc $command, all up to date: $loads loads of params.yaml by $module; $seconds CPU seconds"
    test "$loads" -ge 40 || { echo "changed: fewer loads than stages"; exit 1; }
    case $parser-$module in
      python-ruamel.yaml.parser | C-*_ruamel_yaml) ;;
      *) echo "changed: another parser"; exit 1 ;;
    esac
  done
  test "$parser" = C || "${pip[@]}" ruamel.yaml.clib 2>/dev/null
done
echo "DVC 3.67.1: params.yaml is parsed for every stage, in pure Python without ruamel.yaml.clib"
