"""The pages of the documentation: their blocks, the commands in them, and what they link to.

The word behind a block's language says what becomes of it: ```` ```sh run ```` is run by `make test`, the others need
what :data:`MARKS` says. ```` ```yaml file=mine.yaml ```` is a file that the page has its reader write. Words in
capitals stand for what a reader fills in, and `...` for further options.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
MARKS = {
    "run": "nothing: `make test` runs it, in an empty folder, on the demo corpus",
    "install": "the network, and puts software on the machine",
    "serve": "a shell of its own: it runs until it is ended",
    "long": "more time than a test should take",
    "corpus": "speech of your own, or that its owners hand out to those who ask",
    "gpu": "a machine with a GPU",
    "cluster": "several machines, Kubernetes, or servers beside sersearch",
}
"""What a block of commands needs, by its mark."""
FILLED = {"SPACE": "some.yaml", "EPOCHS": "12"}
"""Words in capitals that options check."""
RUNNERS = {"docker", "env", "exec", "kubectl", "nice", "nohup", "ray", "srun", "time"}
"""Commands that run another one, named in their arguments."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    """Behind the language."""
    text: str

    @property
    def mark(self) -> str | None:
        """What it needs, where it holds commands."""
        return self.words[0] if self.language == "sh" and self.words else None

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """All pages that people read in the repository."""
    families = (ROOT / "sersearch" / "families").glob("*/README.md")
    return [
        ROOT / "README.md",
        *sorted([*(ROOT / "docs").glob("**/*.md"), *(ROOT / "deploy").glob("**/*.md"), *families]),
    ]


def tokens(page: Path) -> list[Token]:
    """What a page is made of, as GitHub reads it."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def inline(page: Path) -> Iterator[Token]:
    """The pieces of a page's sentences: words, links, code."""
    for token in tokens(page):
        yield from token.children or ()


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    found = []
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            language, *words = token.info.split() or [""]
            found.append(Block(page, token.map[0] + 1 if token.map else 0, language, tuple(words), token.content))
    return found


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    made: list[str] = []
    for opened, heading in pairwise(tokens(page)):
        if opened.type == "heading_open":
            text = "".join(piece.content for piece in heading.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            made.append(f"{slug}-{made.count(slug)}" if slug in made else slug)
    return set(made)


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, in words: what loops and variables make of them the first time round."""
    known = dict(FILLED)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(Template(_filled(line)).safe_substitute(known), posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not re.fullmatch(r"[;&|()<>]+", word):
                words.append(word)
                continue
            words, simple = [], words
            while simple and (simple[0] in ("do", "then", "else", "export") or _assigned(simple[0])):
                known |= _assigned(simple.pop(0))
            if simple[:1] == ["for"]:
                known[simple[1]] = simple[3]
            elif simple not in ([], ["done"], ["fi"]):
                yield [word for word in simple if word != "..."]


def _filled(line: str) -> str:
    return re.sub(r"\b[A-Z]+\b", lambda found: FILLED.get(found[0], found[0]), line)


def _assigned(word: str) -> dict[str, str]:
    found = re.fullmatch(r"(\w+)=(.*)", word, re.DOTALL)
    return {found[1]: found[2]} if found else {}


def called(words: list[str], name: str) -> Iterator[list[str]]:
    """The arguments of the command `name`, where the command in `words` is it or runs it."""
    for number, word in enumerate(words):
        runs = number == 0 or words[number - 1] == "--" or words[0] in RUNNERS
        if runs and PurePosixPath(word).name == name:
            yield words[number + 1 :]
            return
