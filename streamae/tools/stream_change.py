"""The verb `stream`: ask a running daemon for a change of one stream, over its API."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamae.config import Settings, load
from streamae.errors import ConfigError, UnavailableError

__all__ = ["ask_change"]

_PATIENCE_S = 30.0


def ask_change(config: Path, action: str, asked: Mapping[str, Any]) -> None:
    """Ask the daemon of this configuration.

    Raises ConfigError where it refuses, UnavailableError where none answers.
    """
    settings = load(config)
    if settings.web.token is None:
        raise ConfigError("web.token: got nothing; set it, since without a token the daemon changes nothing")
    url = f"{_address(settings)}/api/v1/stream/{action}"
    headers = {"authorization": f"Bearer {settings.web.token.get_secret_value()}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(asked).encode(), headers)  # noqa: S310  (http, from `_address`)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the daemon is on this machine
    try:
        with opener.open(request, timeout=_PATIENCE_S):
            return
    except urllib.error.HTTPError as error:
        said = _said(error)
        raise (UnavailableError if error.code == 503 else ConfigError)(f"refused: {said}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"{url}: no daemon answers ({reason}); start it, or correct web.listen") from error


def _address(settings: Settings) -> str:
    """Return where the daemon's page is, as seen from its own machine."""
    host = settings.web.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (what it listens on, not what we do)
    return f"http://[{host}]:{settings.web.port}" if ":" in host else f"http://{host}:{settings.web.port}"


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(16_384))["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the daemon answered {error.code}"
