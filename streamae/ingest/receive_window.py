"""How many unacknowledged messages the broker allows: what we asked for, or what its behaviour shows.

A broker with its window full sends nothing until we acknowledge, and we acknowledge after a commit. Where the window is
large, a batch ends at half of it. MQTT 3.1.1 does not say how large it is (mosquitto: 20), and a batch that waits
for more would delay the broker for the whole of its wait. The timing shows it: the takes wait in vain, always at the
same number of unacknowledged messages, and more come as soon as these are acknowledged. Ten such takes in a row are
enough proof; one message more than the number proves the contrary.
"""

__all__ = ["ReceiveWindow"]

_PROOF = 10
_MIN = 2


class ReceiveWindow:
    """The broker's window for one connection; `limit` is what is known of it, `limited` whether it has been found out.

    `promised` is the Receive Maximum that we gave it, `wait_s` the longest wait of a take.
    """

    def __init__(self, promised: int, wait_s: float) -> None:
        self._promised, self._wait_s = promised, wait_s
        self.begin()

    def begin(self) -> None:
        """Forget everything: another connection."""
        self.limit, self.limited = self._promised, False
        self._most = self._stalls = 0

    @property
    def enough(self) -> int:
        """Messages at which a batch need not wait for more."""
        return self.limit if self.limited else max(1, self._promised // 2)

    def note(self, unacknowledged: int, waited_s: float, answered_s: float | None) -> bool:
        """Take one batch into account; returns whether the window has just been found out.

        `waited_s` is how long the take waited, `answered_s` how soon messages came after the last acknowledgement.
        """
        if unacknowledged > self._most:
            self._most, self._stalls = unacknowledged, 0
            self.limit, self.limited = self._promised, False
            return False
        stalled = (
            unacknowledged == self._most >= _MIN
            and waited_s >= 0.9 * self._wait_s > 0
            and answered_s is not None
            and answered_s < 0.25 * self._wait_s
        )
        if self.limited or not stalled:
            self._stalls = self._stalls if self.limited or not unacknowledged else 0
            return False
        self._stalls += 1
        if self._stalls >= _PROOF and self._most < self._promised // 2:
            self.limit, self.limited = self._most, True
        return self.limited
