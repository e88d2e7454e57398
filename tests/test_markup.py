"""What Markdown shows of text that was escaped for it."""

from __future__ import annotations

from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sersearch.markup import markdown

SIGNS = st.text(st.sampled_from("ab \n\\`*_|<>[]()#&;!~.-"), max_size=12)


def shown(text: str) -> str:
    html = MarkdownIt("commonmark").renderInline(markdown(text))
    assert "<" not in html, "an element"
    return unescape(html)


@given(SIGNS | st.sampled_from(["a &lt; b", "<img src=x>", "[x](javascript:1)", "learning_rate *", "# heading"]))
def test_it_is_the_text_in_one_line(text: str) -> None:
    assert shown(text) == " ".join(text.split())


@pytest.mark.parametrize("text", ["a|b", "| |"])
def test_it_stays_in_a_table_s_cell(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {markdown(text)} | x |\n"
    assert MarkdownIt("commonmark").enable("table").render(table).count("<td>") == 2
