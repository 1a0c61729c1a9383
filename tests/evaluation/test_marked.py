"""Blocks that a command writes: what is between the markers, and nothing else, changes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.errors import ConfigError
from streamae.marked import replace_block

TEXT = "# Title\n\n<!-- begin a: made by `x` -->\nold\n\nold\n<!-- end a -->\n\n<!-- begin b -->\n<!-- end b -->\nend\n"


@given(st.text(st.characters(exclude_categories=["C"], exclude_characters="<\u2028\u2029\x85"), max_size=40))
def test_only_the_block_changes_and_a_second_time_changes_nothing(tmp_path_factory, text):
    """Whatever the text, what is around the block stays to the byte."""
    path = tmp_path_factory.mktemp("marked") / "a.md"
    path.write_text(TEXT)
    replace_block(path, "a", text)
    once = path.read_text()
    before, rest = TEXT.split("old\n\nold\n")
    assert once == f"{before}{text.strip()}\n{rest}"
    replace_block(path, "a", text)
    assert path.read_text() == once
    replace_block(path, "b", "B")
    assert path.read_text() == once.replace("<!-- begin b -->\n", "<!-- begin b -->\nB\n")


@pytest.mark.parametrize("text", ["nothing\n", TEXT + TEXT, TEXT.replace("<!-- end a -->", ""), "\xff"])
def test_a_file_without_the_block_is_left_alone(tmp_path, text):
    """No block, two, one without its end, or no text: an error that names file and markers, and no change."""
    path = tmp_path / "a.md"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.md"):
        replace_block(path, "a", "new")
    assert path.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("quality", "quality"),
        ("quality", "plant"),
        ("quality", "systems"),
        ("quality", "labels"),
        ("benchmarks", "bench"),
        ("benchmarks", "peers"),
    ],
)
def test_the_docs_have_a_place_for_every_table(tmp_path, page, name):
    """`make tables` finds the block of each of its commands."""
    copy = tmp_path / "page.md"
    copy.write_bytes((Path(__file__).parents[2] / "deploy" / "docs" / f"{page}.md").read_bytes())
    replace_block(copy, name, "| a table |")
    assert f"-->\n| a table |\n<!-- end {name} -->" in copy.read_text()
    assert f"--update deploy/docs/{page}.md` -->\n| a table |\n<!-- end {name}" in copy.read_text(), (
        "and says how it is made"
    )
