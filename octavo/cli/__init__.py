"""The command line: a thin file per verb, which parses, calls and prints.

Does not cover any logic of its own, and loads no torch until a verb needs it.
"""

from octavo.cli.main import main

__all__ = ["main"]
