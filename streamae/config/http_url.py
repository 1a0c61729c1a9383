"""Addresses of HTTP in the configuration: plain ones, and those that may hold a secret and are hidden."""

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, SecretStr
from pydantic_core import PydanticCustomError

from streamae.addresses import http_address
from streamae.config.units import HiddenText, Text

__all__ = ["HttpText", "HttpUrl"]


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


HttpUrl: TypeAlias = Annotated[HiddenText, AfterValidator(_http_url)]
HttpText: TypeAlias = Annotated[Text, AfterValidator(_http_text)]
