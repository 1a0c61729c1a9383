"""The table of deploy/docs/faults.md is what the command wrote that played the faults, and nothing in it has failed."""

import json

from tests.faults.rows import PARTS
from tests.faults.table import HEAD, KEPT, PAGE, table, with_table


def test_the_page_has_the_table_that_was_played() -> None:
    """Every row of every part stands there as it was printed: no figure comes from a hand."""
    kept = json.loads(KEPT.read_text())
    text = PAGE.read_text()
    assert set(kept) == set(PARTS)
    assert with_table(text, table(kept)) == text


def test_no_row_has_failed() -> None:
    """A fault that the product did not stand would say so."""
    rows = [row for part in json.loads(KEPT.read_text()).values() for row in part["rows"]]
    assert all(len(row) == len(HEAD) for row in rows)
    assert not [row for row in rows if any(word in str(row) for word in ("FAILED", "WRONG", "NOT FOUND", "only "))]
