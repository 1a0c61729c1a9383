"""uvicorn in a thread of its own: started and stopped by the daemon, never in the way of its signals.

The socket is bound in `start`, in the caller's thread, so that a port in use is an error of the start and not a line
in a log. `stop` lets open requests end for a moment; streams of events are cut.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from streamae.errors import UnavailableError
from streamae.pacing import Rests
from streamae.web.connections import ConnectionLimits, WebConnection, close_overdue

__all__ = ["WebServer"]

_BACKLOG = 256
_START_TIMEOUT_S = 30.0
_BEAT_S = 1.0


class WebServer:
    """An HTTP server on `host:port`; port 0 takes a free one, which `.port` names after `start`.

    `on_stop` is called first when it stops, to end what would never end by itself; `beat` about once a second by the
    thread, as long as it answers. `limits` are what one client may take from the others.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        on_stop: Callable[[], object] = lambda: None,
        beat: Callable[[], object] = lambda: None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._limits = limits or ConnectionLimits()
        self._app, self._on_stop, self._beat = app, on_stop, beat
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._socket is None:
            return self._address[1]
        return int(self._socket.getsockname()[1])

    @property
    def alive(self) -> bool:
        """Whether the server's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Bind and serve; raises UnavailableError where the address cannot be had."""
        host, port = self._address
        try:
            self._socket = socket.create_server(
                self._address, family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
            )
        except OSError as error:
            raise UnavailableError(
                f"web.listen: {host}:{port} cannot be had ({error.strerror or error}); "
                "stop what listens there, or change web.listen"
            ) from None
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
            backlog=_BACKLOG,
            http=partial(WebConnection, self._limits, Rests()),  # type: ignore[arg-type]  # is called as a class is
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each stranger's nonsense fills a disk
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self._thread.start()
        self._started.wait(_START_TIMEOUT_S)

    def _serve(self) -> None:
        assert self._server is not None
        assert self._socket is not None
        asyncio.run(self._run(self._server, self._socket))

    async def _run(self, server: uvicorn.Server, listening: socket.socket) -> None:
        # serve() would install signal handlers in the main thread; in this one it leaves them alone.
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        self._started.set()
        loop = asyncio.get_running_loop()
        while not task.done():
            self._beat()
            close_overdue(server.server_state.connections, loop.time())
            await asyncio.wait([task], timeout=_BEAT_S)
        await task

    def stop(self, timeout_s: float = 3.0) -> bool:
        """End serving; False where the thread did not end in time (it then ends with the process)."""
        if self._server is None or self._thread is None:
            return True
        self._on_stop()
        self._server.should_exit = True
        self._thread.join(timeout_s)
        if self._socket is not None:
            self._socket.close()
        return not self._thread.is_alive()
