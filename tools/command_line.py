"""The command line of a tool, whose help says what the docstring of its module says."""

import argparse


def command_line(program: str, doc: str | None, *, whole: bool = False) -> argparse.ArgumentParser:
    """A parser whose help has the first line of a docstring, or the whole of it as it stands."""
    if whole:
        return argparse.ArgumentParser(program, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    return argparse.ArgumentParser(program, description=(doc or "").split("\n")[0])
