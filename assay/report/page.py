"""Pages that need no network and no scripts, from the templates of this folder."""

import subprocess
from pathlib import Path
from typing import Any

import jinja2

from assay.report.examples import cut
from assay.report.numbers import number, score
from assay.report.summary import show_interval

CODE = ("stages", "assay", "dvc.yaml", "params.yaml")
"""What makes results, in git."""


def code_version() -> str:
    """The commit that is checked out and its date, and whether files have changed since; for a page that is sent on."""
    try:
        shown = subprocess.run(["git", "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *CODE], capture_output=True, check=False)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "no commit"
    return f"commit {shown.stdout.strip()}{', and changes since' if changed.returncode else ''}"


def templates_beside(module: str, *, autoescape: bool) -> jinja2.Environment:
    """The templates in the folder of a module (`__file__`); a name that is missing is an error.

    With `autoescape`, values but `Markup` are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(module).parent),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "score": score, "interval": show_interval}
    return environment


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this folder."""
    environment = templates_beside(__file__, autoescape=True)
    environment.filters["cut"] = cut
    return environment.get_template(template).render(values)
