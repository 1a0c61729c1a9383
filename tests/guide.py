"""The pages that people read, taken apart: their links, commands and fenced blocks. For tests that try all of them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DOCS", "PAGES", "ROOT", "anchors", "commands", "fenced", "links", "prose"]

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "deploy" / "docs"
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
_FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
_ENDS = {"&&", "||", "|", ";", ">", ">>", "2>", "&"}


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a page that are fenced as this language."""
    return [body for found, body in _FENCE.findall(page.read_text()) if found == language]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Each relative link or picture of a page: the path, "" for the page itself, and the anchor, "" without one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text())):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", _FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path, program: str) -> Iterator[tuple[list[str], bool]]:
    """Each command line of the program: its words, and whether it is a line to copy or stands within a sentence."""
    text = page.read_text()
    blocks = [body for _, body in _FENCE.findall(text)]
    rest = re.sub(r"(?s)<!-- begin .*?<!-- end .*?-->", "", _FENCE.sub("", text))
    blocks += re.findall(r"(?m)^ {4,}\S.*$", rest)
    for line in re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines():
        yield from ((words, True) for words in _split(line, program))
    for span in re.findall(r"`([^`]+)`", rest):
        yield from ((words, False) for words in _split(" ".join(span.split()), program))


def _split(line: str, program: str) -> Iterator[list[str]]:
    """The words behind the program's name, up to the end of the command; none where the line runs another program."""
    if line.strip().startswith("#"):
        return
    for found in re.finditer(rf"(?:^|&& |\| |; |\$\(|/bin/|exec ){re.escape(program)} (?=[\w-])", line.strip()):
        words: list[str] = []
        for word in shlex.split(_quiet(line.strip()[found.end() :]), comments=True):
            if word in _ENDS:
                break
            words.append(word.rstrip(";"))
        yield words


def _quiet(text: str) -> str:
    """Without an apostrophe that opens no quotation."""
    return text if text.count("'") % 2 == 0 else text.replace("'", "")


def prose(page: Path) -> str:
    """What a person wrote: without what a command wrote, code, and the column of files in CONTRIBUTING's table."""
    text = re.sub(r"(?s)<!-- begin .*?<!-- end .*?-->|<!-- faults:.*?<!-- end of faults -->", "", page.read_text())
    return re.sub(r"`[^`]*`", "", _FENCE.sub("", text))
