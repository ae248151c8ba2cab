import ast
import re
from pathlib import Path

import yaml

SHORTEST = 9
"""Characters of a piece of text that is no chance."""


def test_what_quoted_errors_always_say_stands_in_the_code(repository: Path) -> None:
    files = [path for folder in ("assay", "stages", "tools") for path in (repository / folder).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    templates = [*(repository / "assay").rglob("*.jinja"), repository / "assay/sources/fixes.yaml"]
    texts += re.split(r"\{[{%#].*?[}%#]\}|\n\w+: ", "\n".join(path.read_text(encoding="utf-8") for path in templates))
    for name in ("assay/language_models/template_faults", "tools/run/stale_outputs"):
        sentences = yaml.safe_load((repository / f"{name}.yaml").read_text(encoding="utf-8")).values()
        texts += re.split(r"\{[^{}]*\}", "\n".join(map(str, sentences)))
    pieces = {line for text in texts for line in text.split("\n") if len(line) >= SHORTEST}
    page = (repository / "docs/troubleshooting.md").read_text(encoding="utf-8")
    shares = {}
    for quoted in re.findall(r"^error: .+$", page, flags=re.MULTILINE):
        there = [re.finditer(re.escape(piece), quoted) for piece in pieces if piece in quoted]
        stable = {place for found in there for one in found for place in range(*one.span())}
        shares[quoted] = len(stable) / len(quoted)
    assert len(shares) > 15
    # The rest are values.
    assert [quoted for quoted, share in shares.items() if share < 0.4] == []
