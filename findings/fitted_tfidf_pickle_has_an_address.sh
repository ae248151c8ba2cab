#!/usr/bin/env bash
# scikit-learn 1.9.1: the pickle of a fitted TfidfVectorizer (or CountVectorizer) differs from process to process, though
# the data, the settings and every learnt value are the same.
#
# Seen: a fitted vectorizer holds `_stop_words_id`, the memory address of its `stop_words` (of None, by default). Address-space randomisation moves it, so a tool that compares hashes of
# model files (DVC, a build cache) takes an unchanged model for a new one. Without that attribute the bytes are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 2>/dev/null
cat > "$folder/fit.py" <<'PYTHON'
import hashlib
import pickle

from sklearn.feature_extraction.text import TfidfVectorizer

fitted = TfidfVectorizer().fit(["the card is late", "the app works"])
as_it_is = hashlib.sha256(pickle.dumps(fitted)).hexdigest()
del fitted._stop_words_id
print(as_it_is, hashlib.sha256(pickle.dumps(fitted)).hexdigest())
PYTHON
for _ in 1 2 3 4; do "$folder/venv/bin/python" "$folder/fit.py"; done > "$folder/hashes"
cat "$folder/hashes"
test "$(cut -d' ' -f1 "$folder/hashes" | sort -u | wc -l)" -gt 1 || { echo "changed: the pickles are equal now"; exit 1; }
test "$(cut -d' ' -f2 "$folder/hashes" | sort -u | wc -l)" -eq 1 || { echo "changed: they differ without the address too"; exit 1; }
echo "scikit-learn 1.9.1: pickles differ by the address alone"
