"""The command line. Options are parsed here; what a command runs is imported only when it runs.

Each module has the commands of one kind, in the order of `sersearch --help`.
"""

from sersearch.cli import corpora, search, models, evidence  # isort: skip  # in the order of the help
from sersearch.cli.application import app, main

__all__ = ["app", "corpora", "evidence", "main", "models", "search"]
