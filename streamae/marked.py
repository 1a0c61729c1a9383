"""Blocks of a text that a command writes: between two markers stands what was measured, and nobody edits it by hand.

The markers stand on lines of their own, `<!-- begin NAME: made by this or that command -->` and `<!-- end NAME -->`.
"""

import re
from pathlib import Path

from streamae.errors import ConfigError

__all__ = ["replace_block"]


def replace_block(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of the block `name` in the file, which stay. Raises ConfigError without them."""
    try:
        whole = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    begin, end = rf"<!-- begin {re.escape(name)}(?:: [^\n]*)? -->\n", rf"<!-- end {re.escape(name)} -->"
    found = re.findall(begin + rf"(?:(?!<!-- begin ).)*?{end}", whole, re.DOTALL)
    if len(found) != 1:
        raise ConfigError(
            f"{path}: has {len(found)} blocks between `<!-- begin {name} -->` and `<!-- end {name} -->` on lines of "
            "their own; write these two lines once, where the text belongs"
        )
    opened = re.match(begin, found[0])
    assert opened is not None
    made = f"{opened.group()}{text.strip()}\n<!-- end {name} -->"
    path.write_text(whole.replace(found[0], made), encoding="utf-8")
