"""Lists the blocks of commands that tests don't run, and what each needs: `python -m tests.docs`."""

from __future__ import annotations

from tests.docs.pages import MARKS, blocks, pages

for block in (block for page in pages() for block in blocks(page)):
    if block.mark not in (None, "run"):
        print(f"{block}: {block.mark}, needs {MARKS.get(block.mark, '?')}")
