"""The scalar types of the configuration: durations, sizes, rates, secrets, numbers that may come from the environment.

A duration or size always carries its unit, so that nobody has to know whether `for: 5` meant seconds or minutes:
`500ms 1s 2m 1h 7d 2w` and `B kB KiB MB MiB GB GiB` (powers of 1000 without the i, of 1024 with it). Inside they are
seconds (float) and bytes (int). A ValueError's text is the remedy half of the message that the operator reads.
"""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    Strict,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from streamae.addresses import http_address
from streamae.config.yaml_document import Interpolated

__all__ = [
    "Duration",
    "FilePath",
    "Flag",
    "HiddenText",
    "HttpText",
    "HttpUrl",
    "Number",
    "Patience",
    "Rate",
    "Secret",
    "Size",
    "Text",
    "Whole",
    "Zone",
    "duration_text",
    "parse_duration",
    "parse_size",
    "patience_text",
    "shown_secret",
    "size_text",
    "zone_name",
]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}
_PERIOD_S = {"hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2592000.0, "year": 31536000.0}
_DURATION = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d|w)$"
_SIZE = r"^[0-9]+(\.[0-9]+)?(B|kB|KiB|MB|MiB|GB|GiB)$"
_RATE = r"^[0-9]+(\.[0-9]+)?/(hour|day|week|month|year)$"
_SECRET_MAX = 65536
PATIENCE_MIN_S = 30.0
DURATION_MAX_S = 100 * 365 * 86400.0  # what every clock and timer of the system can still wait for
_SIZE_MAX_BYTES = 10**18
_RATE_MIN_PER_S = 0.0009 / 31536000.0


def parse_duration(value: Any) -> float:
    """`"2m"` -> 120.0 seconds; ValueError says what to write."""
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)$", value) if isinstance(value, str) else None
    if match is None:
        example = f", for example {value:g}s" if isinstance(value, int | float) and not isinstance(value, bool) else ""
        raise ValueError(f"write a number with its unit (ms, s, m, h, d or w){example or ', for example 90s'}")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > DURATION_MAX_S:
        raise ValueError(f"write {duration_text(DURATION_MAX_S)} or less")
    return seconds


def _parse_patience(value: Any) -> float | None:
    """`"auto"` -> 0, which is none of the durations; `"off"` -> None."""
    if value in ("auto", "off"):
        return 0.0 if value == "auto" else None
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise ValueError("write auto, off, or a duration such as 5m") from None
    if seconds < PATIENCE_MIN_S:
        raise ValueError(f"write auto, off, or a duration of {duration_text(PATIENCE_MIN_S)} or more")
    return seconds


def patience_text(seconds: float | None) -> str:
    """300.0 -> `"5m"`, 0.0 -> `"auto"`, None -> `"off"`."""
    return "off" if seconds is None else duration_text(seconds) if seconds else "auto"


def duration_text(seconds: float) -> str:
    """120.0 -> `"2m"`: the largest unit that gives a whole number."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0 and not (unit == "w" and seconds < 2 * _SECONDS["w"]):
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.3f}".rstrip("0").rstrip(".") + "ms" if seconds else "0s"


def parse_size(value: Any) -> int:
    """`"64KiB"` -> 65536 bytes; ValueError says what to write."""
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)(B|kB|KiB|MB|MiB|GB|GiB)$", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a number with its unit (B, kB, KiB, MB, MiB, GB or GiB), for example 64KiB")
    size = float(match[1]) * _BYTES[match[2]]
    if size > _SIZE_MAX_BYTES:
        raise ValueError(f"write {size_text(_SIZE_MAX_BYTES)} or less")
    return round(size)


def size_text(size: int) -> str:
    """65536 -> `"64KiB"`: the largest unit that gives a whole number."""
    for unit in ("GB", "GiB", "MB", "MiB", "kB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def _parse_rate(value: Any) -> float:
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)/(hour|day|week|month|year)$", value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError("write how many false alarms are acceptable, for example 1/week")
    per_s = float(match[1]) / _PERIOD_S[match[2]]
    if not _RATE_MIN_PER_S <= per_s <= 1.0:
        raise ValueError("write a rate from 1 in a thousand years (0.001/year) to one a second (3600/hour)")
    return per_s


def _rate_text(per_s: float) -> str:
    for unit, period_s in _PERIOD_S.items():
        if per_s * period_s >= 1:
            return f"{per_s * period_s:.6g}/{unit}"
    return f"{per_s * _PERIOD_S['year']:.6g}/year"


def _number_of(kind: type[int] | type[float]) -> Any:
    def convert(value: Any) -> Any:
        if isinstance(value, Interpolated):
            try:
                value = kind(value)
            except ValueError:
                return str(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("write a finite number")
        return value

    return convert


def _flag(value: Any) -> Any:
    return value == "true" if isinstance(value, Interpolated) and value in ("true", "false") else value


def _here(info: ValidationInfo) -> tuple[Path, Any]:
    context = info.context or {}
    return context.get("directory", Path()), context.get("environ", os.environ)


def _secret(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, SecretStr):
        return value
    if isinstance(value, Interpolated):
        return _one_line(value)
    if isinstance(value, str) and value.startswith(("file:", "credential:")):
        return _read_secret(value, info)
    raise PydanticCustomError(
        "secret", "keep secrets out of this file: write file:/path, credential:name or ${VARIABLE} here"
    )


def _hidden(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and value.startswith(("file:", "credential:")):
        return _read_secret(value, info)
    if isinstance(value, Interpolated):
        return _one_line(value)
    return str(value) if isinstance(value, str) else value


def _one_line(value: Interpolated) -> str:
    """Return a secret from the environment without the line end that a file or a pipe has left on it."""
    if value.blank:
        raise ValueError(f"set the environment variable {value.blank[0]}: it is empty")
    return str(value).rstrip("\r\n")


def shown_secret(value: SecretStr) -> SecretStr:
    """Return a secret that can be shown in a header of HTTP; ValueError for one that no client could show."""
    text = value.get_secret_value()
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError("use a secret of one line of printable characters, without spaces around it")
    return value


def _http_url(value: SecretStr) -> SecretStr:
    _http_text(value.get_secret_value())
    return value


def _http_text(url: str) -> str:
    """An address that is wrong is not shown: it may hold a password."""
    if not url.startswith(("http://", "https://")):
        raise PydanticCustomError("url", "write a url that starts with http:// or https://")
    try:
        http_address(url)
    except ValueError as error:
        raise PydanticCustomError("url", "{remedy}", {"remedy": str(error), "got": "an address"}) from None
    return url


def _read_secret(value: str, info: ValidationInfo) -> str:
    directory, environ = _here(info)
    kind, _, name = value.partition(":")
    if kind == "credential":
        folder = environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise ValueError(
                "start it from a systemd unit with LoadCredential=, or use file:; CREDENTIALS_DIRECTORY is unset"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.@-]+", name) or name in (".", ".."):
            raise ValueError("name the credential as LoadCredential= does, without slashes")
        path = Path(folder) / name
    else:
        path = directory / name
    try:
        with path.open("rb") as file:
            raw = file.read(_SECRET_MAX + 1)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"store the secret as UTF-8 text; {path} holds other bytes") from None
    except OSError as error:
        raise ValueError(f"make {path} a readable file ({error.strerror})") from None
    text = text.rstrip("\r\n")
    if not text.strip() or len(raw) > _SECRET_MAX:
        raise ValueError(f"put the secret alone into {path}; it is {'too long' if text.strip() else 'empty'}")
    return text


def _path(value: Any, info: ValidationInfo) -> Any:
    return str(_here(info)[0] / Path(value).expanduser()) if isinstance(value, str | Path) and str(value) else value


def zone_name(name: str) -> str:
    """Return the name of a time zone that this system knows."""
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError) as error:  # one that is not there is a KeyError
        raise ValueError("write a time zone of this system, such as Europe/Berlin, or UTC") from error
    return name


def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(zone_name(name))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _DURATION}),
]
Patience: TypeAlias = Annotated[
    float | None,
    BeforeValidator(_parse_patience),
    PlainSerializer(patience_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^(auto|off)$|{_DURATION}"}),
]
Size: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(size_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _SIZE}),
]
Rate: TypeAlias = Annotated[
    float,
    BeforeValidator(_parse_rate),
    PlainSerializer(_rate_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _RATE}),
]
Whole: TypeAlias = Annotated[int, BeforeValidator(_number_of(int)), Strict()]
Number: TypeAlias = Annotated[float, BeforeValidator(_number_of(float)), Strict()]
Flag: TypeAlias = Annotated[bool, BeforeValidator(_flag), Strict()]
Text: TypeAlias = Annotated[str, BeforeValidator(_plain), Strict(), Field(min_length=1)]
Secret: TypeAlias = Annotated[SecretStr, BeforeValidator(_secret)]
HiddenText: TypeAlias = Annotated[SecretStr, BeforeValidator(_hidden)]
HttpUrl: TypeAlias = Annotated[HiddenText, AfterValidator(_http_url)]
HttpText: TypeAlias = Annotated[Text, AfterValidator(_http_text)]
Zone: TypeAlias = Annotated[Text, AfterValidator(_zone)]
FilePath: TypeAlias = Annotated[Path, BeforeValidator(_path)]
