"""Write the golden folders of the feeds again: python -m tests.feeds.write [FEED …]

Each holds an excerpt of the feed as `streamae record` writes it, and the block that `streamae sniff` proposes for it.
Look at what has changed before you commit it.
"""

import sys
from pathlib import Path

from streamae.history.recordings import message_line
from streamae.tools.feeds import sniff_recorded
from tests.feeds.catalogue import FEEDS, Feed

FOLDER = Path(__file__).parents[1] / "golden" / "feeds"


def excerpt_of(feed: Feed) -> str:
    """The beginning of a feed as a recording."""
    return "".join(message_line(*message) for message in feed.messages(feed.excerpt_s))


def main() -> None:
    """Write the folders of the feeds that are named, or of all."""
    for name in sys.argv[1:] or FEEDS:
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "messages.jsonl").write_text(excerpt_of(FEEDS[name]))
        (folder / "streams.yaml").write_text(sniff_recorded([folder / "messages.jsonl"]))


if __name__ == "__main__":
    main()
