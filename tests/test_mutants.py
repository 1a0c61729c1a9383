"""The planter of mistakes: what it plants, where not, and which of it the tests are said to notice."""

import json
import subprocess
import sys

import pytest

from tests.mutants import Reach, accepted, every_mutant, judge
from tests.mutate import mutants
from tests.services import ROOT

SOURCE = '''"""A text of 7 words < 8."""
LIMIT_S: float = 60.0
__all__ = ["rise"]


def rise(level: int, *, most: bool = True) -> int:
    """Raise by 1."""
    assert level > 0, f"{level + 1}"
    if level >= LIMIT_S and not most:
        level += 2
    return max(level, 3)
'''


def lines(source):
    return [one.lines for one in mutants("rise.py", source)]


def test_each_mistake_is_one_line_that_a_person_can_judge():
    """Operators, conditions, numbers, statements, calls are replaced; docstrings, types, texts, assertions are not."""
    found = lines(SOURCE)
    assert sorted(found) == sorted([
        ("LIMIT_S: float = 60.0", "LIMIT_S: float = 120.0"),
        ("def rise(level: int, *, most: bool = True) -> int:", "def rise(level: int, *, most: bool = False) -> int:"),
        ("if level >= LIMIT_S and not most:", "if (not (level >= LIMIT_S and not most)):"),
        ("if level >= LIMIT_S and not most:", "if level > LIMIT_S and not most:"),
        ("if level >= LIMIT_S and not most:", "if level >= LIMIT_S or not most:"),
        ("if level >= LIMIT_S and not most:", "if level >= LIMIT_S and (most):"),
        ("level += 2", "pass"),
        ("level += 2", "level += 3"),
        ("return max(level, 3)", "return min(level, 3)"),
        ("return max(level, 3)", "return max(level, 4)"),
    ])  # fmt: skip


def test_brackets_breaks_and_wide_letters_are_no_hindrance():
    """A place is found by characters, behind µ and ×, in brackets and across lines."""
    found = lines('"""µ×"""\nx = ("µ", (1\n     + y) * 2 if a in b else -c)\n')
    assert ("+ y) * 2 if a in b else -c)", "- y) * 2 if a in b else -c)") in found
    assert ("+ y) * 2 if a in b else -c)", "+ y) / 2 if a in b else -c)") in found
    assert ("+ y) * 2 if a in b else -c)", "+ y) * 2 if a not in b else -c)") in found
    assert ("+ y) * 2 if a in b else -c)", "+ y) * 2 if a in b else (c))") in found


def test_the_sample_stays_when_other_lines_change():
    """A mutant's rank depends on its own line and function, not on where in the file that stands."""
    moved = SOURCE.replace("LIMIT_S: float", "# A comment.\nLIMIT_S: float")
    assert [one.rank for one in mutants("rise.py", moved)] == [one.rank for one in mutants("rise.py", SOURCE)]


def test_every_accepted_mutant_is_one_and_has_a_reason():
    """The reviewed list names mutants that there are, each with a sentence."""
    known = {one.lines for one in every_mutant()}
    for pair, reason in accepted().items():
        assert pair in known, pair
        assert reason.endswith("."), pair
        assert len(reason.split()) >= 4, pair


PLAY = """
import json, sys
from tests.mutants import Reach, judge
from tests.mutate import Mutant
file, start, new, line, test = json.loads(sys.argv[1])
one = Mutant(file, open(file).read(), start, start + 1, new, "Alerts.step", line, in_function=True)
print(judge(one, Reach({test: 1.0}, {file: {line: {test}}}), 60.0)["outcome"])
"""


@pytest.mark.parametrize(("new", "outcome"), [(">=", "killed"), ("> 0.0 +", "survived")])
def test_what_a_test_notices_is_killed(new, outcome):
    """In the real core, with a real test: a changed comparison dies, one that means the same lives."""
    file, test = "streamae/core/alert.py", "tests/core/test_scenarios.py::test_scenario[alert-limits-are-exact]"
    text = (ROOT / file).read_text()
    start = text.index("score > threshold", text.index("def step")) + len("score ")
    given = json.dumps([file, start, new, text[:start].count("\n") + 1, test])
    command = [sys.executable, "-c", PLAY, given]  # a process that has not imported the core
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == outcome, done.stderr


def test_a_line_that_no_test_reaches_is_said_to_be_so():
    """It is a survivor of another kind: nobody looked."""
    (one, *_) = mutants("streamae/core/none.py", SOURCE)
    assert judge(one, Reach(), 1.0) == {"outcome": "unreached"}
