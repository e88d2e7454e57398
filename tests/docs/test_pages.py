"""What the pages tell a reader to type exists: commands, options, modules, targets, spaces, links."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from data_prep.corpora import get_corpus
from data_prep.options import checked_options
from sersearch import cli
from sersearch.audio import VISUAL, extractor
from sersearch.cli.application import assignments, spread
from sersearch.papers import get_piece
from sersearch.tuning import plan, progress, run
from sersearch.tuning.space import load_space, space_names
from tests.docs.pages import FILLED, MARKS, ROOT, Block, anchors, blocks, called, commands, inline, pages, tokens

PAGES = pages()
OWN = [page for page in PAGES if ROOT / "deploy" not in page.parents]
"""Those that speak of sersearch's options alone."""
BLOCKS = [block for page in PAGES for block in blocks(page)]
SCRIPTS = [block for block in BLOCKS if block.language == "sh"]
LARGEST = 200_000  # bytes of a picture
OPTION = re.compile(r"--[a-z][\w-]+")


def prep(**options: Any) -> None:
    """What `sersearch prep` finds out before it looks for the corpus."""
    name = options["corpus"]
    reader = get_corpus("audformat" if name.startswith("audb:") else name)
    unlabelled = {} if options["unlabeled"] is None else {"unlabeled": str(options["unlabeled"])}
    checked_options(reader, assignments(options["option"] or []) | unlabelled)
    for features in set(options["features"] or ()) - VISUAL.keys():
        extractor(features)


def paper(**options: Any) -> None:
    """What `sersearch paper` finds out before it looks for a corpus."""
    if options["name"] is not None:
        get_piece(options["name"])


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[str]], None]:
    """The command line as it is, of which nothing opens a corpus or a study, nor trains."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.search, "_demo", lambda features, family: Path("data/demo"))
    monkeypatch.setattr(cli.search, "_target", lambda wanted, *corpus: wanted or "emotion")
    monkeypatch.setattr(cli.search, "_resume", lambda *how: None)
    for module, name in ((run, "tune"), (plan, "dry_run"), (progress, "show_dry_run")):
        monkeypatch.setattr(module, name, lambda *how: None)
    command: Any = get_command(cli.app)
    tune = command.commands["tune"].callback

    def known_space(*given: Any, **options: Any) -> None:
        space = options["space"]
        if space is None or space in space_names() or Path(space).is_file():
            tune(*given, **options)

    checks: dict[str, Callable[..., None]] = {"tune": known_space, "prep": prep, "paper": paper}
    for name, each in [*command.commands.items(), *command.commands["data"].commands.items()]:
        each.callback = checks.get(name, lambda *given, **options: None)
    return lambda words: command.main(spread(words), standalone_mode=False)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_its_language_and_one_of_commands_what_it_needs(block: Block) -> None:
    assert block.language, "a fence needs a language: sh for commands, text for what they print"
    assert block.language not in ("bash", "shell", "console"), "commands are of the language sh"
    if block.language == "sh":
        assert block.mark in MARKS, f"```sh and one of {', '.join(MARKS)}"


def test_the_index_explains_all_marks() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for mark, need in MARKS.items():
        assert f"| `{mark}` | {need} |" in index


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_what_a_reader_types_exists(block: Block, app: Callable[[list[str]], None]) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    for file in (other for other in blocks(block.page) if other.file):
        Path(str(file.file)).parent.mkdir(parents=True, exist_ok=True)
        Path(str(file.file)).write_text(file.text, "utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for words in commands(block.text):
        for arguments in called(words, "sersearch"):
            handed_on = arguments.index("--") if "--" in arguments else len(arguments)
            app(arguments)
            if arguments[handed_on + 1 :]:  # what `submit` runs elsewhere
                app(arguments[handed_on + 1 :])
            if "--space" in arguments:
                space = arguments[arguments.index("--space") + 1]
                assert space in space_names() or space.endswith(".yaml"), space
        for number, word in enumerate(words):
            if words[0] == "sbatch" and word.endswith(".sbatch"):
                app(["tune", *words[number + 1 :]])
        for word in words:
            assert not word.startswith("deploy/") or (ROOT / word).exists(), word
        assert {word for word in words[1:] if words[0] == "make" and "=" not in word} <= targets
        for arguments in (*called(words, "python"), *called(words, "python3"), *called(words, "python3.11")):
            if arguments[:1] == ["-m"]:
                assert importlib.util.find_spec(arguments[1]), f"python -m {arguments[1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for piece in inline(page):
        target = piece.attrGet("href") or piece.attrGet("src")
        if target is None or re.match(r"[a-z]+:", str(target)):
            continue
        path, _, anchor = str(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(there), target
        assert piece.type != "image" or there.stat().st_size <= LARGEST, target


@pytest.mark.parametrize("page", OWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_that_are_talked_about_exist(page: Path) -> None:
    command: Any = get_command(cli.app)
    each = [*command.commands.values(), *command.commands["data"].commands.values()]
    known = {option for one in each for parameter in one.params for option in parameter.opts} | {"--help"}
    said = {
        match[0] for piece in inline(page) if piece.type == "code_inline" and (match := OPTION.match(piece.content))
    }
    used = {word for block in blocks(page) for words in commands_of(block) for word in words}
    assert said <= known | used


def commands_of(block: Block) -> list[list[str]]:
    return list(commands(block.text)) if block.language == "sh" else []


SPACES = [block for block in BLOCKS if block.language == "yaml" and "\nfamily:" in f"\n{block.text}" and block.file]


@pytest.mark.parametrize("block", SPACES, ids=str)
def test_spaces_on_the_pages_are_spaces(block: Block, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(block.text, "utf-8")
    if "family: entropy" not in block.text:  # of the family that docs/family.md adds
        assert load_space(str(tmp_path / "space.yaml")).name == Path(str(block.file)).stem


def test_the_checks_find_what_is_wrong(app: Callable[[list[str]], None]) -> None:
    wrong = (
        "sersearch tune --space aae_alpha_beta --trails 3",
        "sersearch tune --space aae_alpha_beta --set aplha=1",
        "srun sersearch tune --space aae_alpha_beta --method magic",
        "sersearch prep nemo CORPORA/nemo --features mell",
        "sersearch report",
    )
    for text in wrong:
        (words,) = commands(text)
        (arguments,) = called(words, "sersearch")
        with pytest.raises(Exception, match=r"trails|aplha|magic|mell|STUDY|study"):
            app(arguments)
    looped = 'for s in A B; do\n  O="--epochs EPOCHS"\n  sersearch evaluate x-$s $O \\\n    --again  # once\ndone'
    assert list(commands(looped)) == [["sersearch", "evaluate", "x-A", "--epochs", FILLED["EPOCHS"], "--again"]]


def messages() -> list[str]:
    """What sersearch can say, with `...` for what varies."""
    found = []
    for path in [*(ROOT / "sersearch").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "..." for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_that_are_explained_are_messages() -> None:
    known, strange = "\n".join(messages()), []
    for token in tokens(ROOT / "docs" / "troubleshooting.md"):
        first = (token.children or [None])[0]
        if token.type == "inline" and first is not None and first.type == "code_inline" and " " in first.content:
            said = "[^\n]*".join(re.escape(piece) for piece in first.content.split("..."))
            strange += [] if re.search(said, known) else [first.content]
    assert not strange
