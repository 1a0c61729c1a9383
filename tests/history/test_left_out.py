"""What training leaves out of the past of an installation: the times that people or the plan silenced."""

import sqlite3
from contextlib import closing
from pathlib import Path

from streamae.store.past import open_past
from streamae.store.silences import Silence
from tests.store_world import opened

NOW = 1_700_000_000.0


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "state.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_silences_of_a_group_are_those_that_name_all_of_a_stream(tmp_path: Path) -> None:
    """Not those of one rule, of labels, of another group, nor a damaged one; a file from before silences has none."""
    store = opened(tmp_path)
    for changes in ({"stream": "a*"}, {"rule": "stale"}, {"labels": {"line": "1"}}, {"group": "fans"}, {"stream": "x"}):
        store.silences.create(Silence(NOW, NOW + 60, **changes), NOW)  # type: ignore[arg-type]
    store.close()
    change(tmp_path, "UPDATE silence SET crc = crc + 1 WHERE id = 5")
    with open_past(tmp_path) as past:
        assert [(spell.stream, spell.start_s, spell.end_s) for spell in past.silences("pumps")] == [
            ("a*", NOW, NOW + 60)
        ]
    change(tmp_path, "DROP TABLE silence")
    with open_past(tmp_path) as past:
        assert past.silences("pumps") == []
