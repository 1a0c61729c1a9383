"""Takes the README's picture of the page: `make pictures`, or this file alone.

It starts `streamae demo`, waits for the alert on the pump that the demo breaks, lets the fault go on for some seconds,
and photographs the page of that pump. Needs chromium and playwright; takes about a minute.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import sync_playwright

__all__ = ["FOLDER", "SIZE", "page_of_an_alert", "running_demo"]

FOLDER = Path(__file__).parent
SIZE = {"width": 1100, "height": 790}
_INTO_THE_FAULT_S = 18.0
_PATIENCE_S = 180.0


@contextmanager
def running_demo() -> Iterator[str]:
    """Run the demo on a free port for as long as the block runs; gives the page's address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "streamae.cli", "demo", "--port", "0", "--folder", folder]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as demo:
            assert demo.stdout is not None
            try:
                yield next(found[0] for line in demo.stdout if (found := re.search(r"http://[\d.:]+/", line)))
            finally:
                demo.send_signal(signal.SIGINT)  # as Ctrl-C: the demo ends its broker too


def page_of_an_alert(base: str, path: Path) -> None:
    """Photograph the page of the first stream that fires, once its alert has lasted for some seconds."""
    alert = _lasting_alert(base)
    with sync_playwright() as running:
        binary = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = running.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(f"{base}#/stream/{quote(alert['group'], safe='')}/{quote(alert['stream'], safe='')}")
        page.locator(".panels .chart canvas").first.wait_for()
        page.wait_for_timeout(1500)  # one event of the live stream: the charts have their data
        page.screenshot(path=path)
        browser.close()


def _lasting_alert(base: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        with urllib.request.urlopen(f"{base}api/v1/alerts?state=firing", timeout=10) as answer:
            firing = json.load(answer)["alerts"]
        for alert in firing:
            if time.time() - alert["onset_s"] > _INTO_THE_FAULT_S:
                return dict(alert)
        time.sleep(0.5)
    raise TimeoutError(f"no alert has fired for {_INTO_THE_FAULT_S:.0f} s within {_PATIENCE_S:.0f} s")


if __name__ == "__main__":
    with running_demo() as address:
        page_of_an_alert(address, FOLDER / "page.png")
