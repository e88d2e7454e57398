"""Text without the secrets that it may quote."""

from __future__ import annotations

import os
import re

_IN_TEXT = re.compile(r"(?<=://)[^/\s]*(?=@)|(?<=token=)[^&\s]*|(?<=password=)[^&\s]*", re.IGNORECASE)
_NAMES = re.compile(r"PASSWORD|PASSPHRASE|SECRET|TOKEN|ACCESS_KEY|API_KEY|ACCOUNT_KEY|CONNECTION_STRING", re.IGNORECASE)
_FILES = re.compile(r"(FILE|PATH|DIR)$", re.IGNORECASE)
_SHORTEST = 6
"""Characters of a secret from the environment that is looked for: a shorter one would stand in other words."""


def redact(text: str) -> str:
    """`text`, such as a URI or a message that quotes one, with its secrets hidden.

    Those are `user:password@`, password and token parameters, and the values of environment variables that are called
    a secret; not the path of a file that holds one.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAMES.search(name) and not _FILES.search(name):
            text = text.replace(value, "***")
    return _IN_TEXT.sub("***", text)


def redact_uri(uri: str) -> str:
    """`uri` as it may be written down and used again: without its password."""
    return _IN_TEXT.sub("***", uri)


__all__ = ["redact", "redact_uri"]
