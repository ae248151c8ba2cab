"""`params.yaml` with other values in it; comments, order and quotes stay as they are."""

from collections.abc import Callable
from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def written(value: float) -> str:
    """A number as both versions of YAML read it: for 1.1, `5e-05` without a point is text."""
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")


def edited(text: str, edit: Callable[[Any], None]) -> str:
    """The file after `edit` has changed the document in place; its mappings are ruamel's."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.representer.add_representer(
        float, lambda representer, value: representer.represent_scalar("tag:yaml.org,2002:float", written(value))
    )
    document = yaml.load(text)
    edit(document)
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()
