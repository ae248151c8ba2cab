#!/usr/bin/env bash
# DVC 3.67.1 with PyYAML 6.0.3: `dvc exp run -S other=4` can make a params.yaml that the stage can no longer load.
#
# Seen: an override rewrites the whole file, and text in a flow mapping loses its quotes, also where nothing was
# overridden: `report: {title: "Which one?"}` becomes `report: {title: Which one?}`. The parser that DVC itself uses
# (ruamel.yaml, YAML 1.2) reads that; PyYAML, which most stages use, ends with "expected ',' or '}', but got '?'".
# A block mapping (`report:` and `title:` on lines of their own) is not affected, though it loses the quotes too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1 pyyaml==6.0.3 2>/dev/null
export PATH="$folder/venv/bin:$PATH"
mkdir "$folder/project" && cd "$folder/project"
git init --quiet && git config user.name somebody && git config user.email somebody@example.org
printf 'report: {title: "Which one?"}\nother: 1\n' > params.yaml
printf 'stages:\n  a:\n    cmd: echo 1 > out\n    params: [other]\n    outs: [out]\n' > dvc.yaml
dvc init --quiet && dvc config core.analytics false
git add --all && git commit --quiet --message start
read_params='import sys, yaml; print(yaml.safe_load(sys.stdin))'
python -c "$read_params" < params.yaml
dvc exp run --queue -S other=4 > /dev/null
git show refs/exps/celery/stash:params.yaml | tee "$folder/after.yaml"
grep -qxF 'report: {title: Which one?}' "$folder/after.yaml" || { echo "changed: the quotes stay now"; exit 1; }
if python -c "$read_params" < "$folder/after.yaml" 2> "$folder/error"; then echo "changed: PyYAML reads it now"; exit 1; fi
tail -3 "$folder/error"
python -c 'import sys; from ruamel.yaml import YAML; print(dict(YAML().load(sys.stdin)["report"]))' < "$folder/after.yaml"
echo "DVC 3.67.1: an override leaves a params.yaml that ruamel.yaml reads and PyYAML does not"
