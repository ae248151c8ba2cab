#!/usr/bin/env bash
# python-stdnum 2.2: `stdnum.cn.ric.is_valid` can raise KeyError, where the other `is_valid` functions return False.
#
# Seen: a Chinese resident number whose first two digits are a province and whose next four are no county of its table,
# with a right date and check digit, gives `KeyError: 'county'`. `is_valid` catches the package's own ValidationError
# alone; the look-up finds the province, and reads a county from it. So a program that searches texts for such numbers
# has to catch KeyError as well, or to check the parts itself. The number below is made up: there is no such county.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check python-stdnum==2.2 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
from stdnum.cn import ric

print("a county that exists:", ric.is_valid("360426199101010071"))
print("no such province:", ric.is_valid("990000199101010070"))
try:
    said = ric.is_valid("629501199808166678")
except KeyError as error:
    print("a province's number without a county: KeyError", error)
else:
    raise SystemExit(f"changed: it returns {said} now")
PYTHON
echo "python-stdnum 2.2: is_valid of a Chinese number of an unknown county raises KeyError"
