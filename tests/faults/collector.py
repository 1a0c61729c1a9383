"""A webhook receiver with bad manners: it answers 503, or takes the alerts and hangs up before it has answered."""

import json
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector:
    """Collects alerts by key. Of the requests, `refuse` get a 503 and `vanish` are taken and never answered."""

    def __init__(self, seed: int = 0, refuse: float = 0.1, vanish: float = 0.05) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}  # by key, in the order of first receipt
        self.copies: Counter[str] = Counter()
        self.contradictions: list[str] = []  # keys that came twice with different content
        self.answers: Counter[str] = Counter()
        self.refuse, self.vanish = refuse, vanish
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        outer = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer._answer(self, body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            drawn = self._random.random()
            if drawn < self.refuse:
                self.answers["503"] += 1
                request.send_error(503)
                return
            for alert in json.loads(body)["alerts"]:
                known = self.alerts.setdefault(alert["key"], alert)
                self.copies[alert["key"]] += 1
                if known != alert:
                    self.contradictions.append(alert["key"])
            if drawn < self.refuse + self.vanish:
                self.answers["hung up"] += 1
                request.close_connection = True
                return
            self.answers["200"] += 1
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def out_of_order(self) -> list[str]:
        """Keys whose first receipt came before that of an earlier transition of the same alert."""
        newest: dict[str, int] = {}
        found = []
        for key, alert in list(self.alerts.items()):
            if alert["sequence"] != newest.get(alert["id"], -1) + 1:
                found.append(key)
            newest[alert["id"]] = alert["sequence"]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
