"""What pip is configured with, for those that read packages by other means. Needs the standard library alone."""

import ast


def parse_pip_options(listing: str, command: str) -> dict[str, str]:
    """Options of a pip command from what `pip config list` prints, lines such as `global.index-url='…'`.

    Later sections win, as in pip: `global`, that of the command (such as `download`), variables of the environment.
    """
    options: dict[str, str] = {}
    for section in ("global", command, ":env:"):
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                options[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return options


def is_on(value: str) -> bool:
    """Whether pip reads the text of a switch, such as `no-index`, as on."""
    return value.lower() in ("1", "true", "yes", "on")
