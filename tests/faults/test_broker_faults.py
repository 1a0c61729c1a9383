"""Whatever happens to the broker and the way to it, the daemon heals by itself and knows what it has lost."""

import pytest

from tests import brokers
from tests.faults import plant
from tests.faults.broker_faults import CELLS, Cell, Outcome, play_all
from tests.faults.processes import Zygote

HEALS_S = 30.0  # on any machine, however busy; the figure is printed, and is below 5 s
Outcomes = dict[str, Outcome | Exception]


@pytest.fixture(
    scope="module", params=[pytest.param(3), pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: plant.Model, zygote: Zygote
) -> Outcomes:
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    return play_all(tmp_path_factory.mktemp("cells"), model, zygote, request.param)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_broker_fault_heals_and_every_loss_is_known(outcomes: Outcomes, cell: Cell) -> None:
    """After the fault the daemon is back within seconds; messages are lost only with a session, and each is counted."""
    outcome = outcomes[cell.name]
    print(f"\n{outcome}")
    assert isinstance(outcome, Outcome), outcome
    rounds = len(outcome.heals_s)
    assert max(outcome.heals_s) < HEALS_S
    assert outcome.sessions_lost == (rounds if cell.loses_session else 0)
    assert outcome.true_loss == 0 or cell.loses_session
    assert outcome.detected == outcome.missed
    assert outcome.counted in (None, outcome.missed)
    assert outcome.doubled == 0 or cell.resent_by_publisher
    assert outcome.alerts_wrong == 0
    assert outcome.exits == ((69,) * rounds if cell.name == "session taken over" else ())
    assert ("taken over" in outcome.said) == bool(outcome.exits)
