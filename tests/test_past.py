"""What others may read of a state directory while the daemon has it: only what is ours, and words where it is not."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from streamae.errors import StoreError
from streamae.store.past import open_past
from streamae.store.silences import Silence
from tests.store_world import opened

NOW = 1_700_000_000.0


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "state.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", "PRAGMA application_id = 7"])
def test_a_file_of_a_later_release_or_of_another_program_is_refused(tmp_path: Path, statement: str) -> None:
    """It is not looked into, and the message says which release can."""
    opened(tmp_path).close()
    change(tmp_path, statement)
    with pytest.raises(StoreError, match="use the release that wrote it"), open_past(tmp_path):
        pass


def test_a_directory_without_a_state_file_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    """Each with what to do."""
    with pytest.raises(StoreError, match=r"has no state\.db"), open_past(tmp_path):
        pass
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="cannot be read"), open_past(tmp_path):
        pass


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
