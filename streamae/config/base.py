"""What every part of the configuration shares: frozen sections, names, headers."""

import re
from dataclasses import is_dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from streamae.config.units import HiddenText, Text
from streamae.config.yaml_document import Interpolated
from streamae.headers import unsendable

__all__ = ["Headers", "Name", "Section"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class Section(BaseModel):
    """A mapping of the file: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        """A section whose keys are all commented out is one with all defaults: YAML reads it as null."""
        if not isinstance(value, dict):
            return value
        sections = {
            field.alias or name
            for name, field in cls.model_fields.items()
            if isinstance(kind := field.annotation, type) and (issubclass(kind, Section) or is_dataclass(kind))
        }
        return {key: {} if one is None and key in sections else one for key, one in value.items()}


def _no_plain_credentials(headers: Any) -> Any:
    for name, text in headers.items() if isinstance(headers, dict) else ():
        secret = re.search("auth|token|key|cookie|secret", str(name), re.IGNORECASE)
        plain = not isinstance(text, Interpolated) and not str(text).startswith(("file:", "credential:"))
        if secret and plain:
            raise PydanticCustomError(
                "secret_header",
                "keep {name} out of this file: write file:/path, credential:name or ${VARIABLE}",
                {"name": name},
            )
    return headers


def _sendable(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if remedy := unsendable(name, value.get_secret_value()):
            raise PydanticCustomError("header", "{remedy}", {"name": name, "remedy": remedy})
    return headers


Headers: TypeAlias = Annotated[
    dict[Text, HiddenText], BeforeValidator(_no_plain_credentials), AfterValidator(_sendable)
]
"""Headers of HTTP, by their names; none that carries a secret in clear text."""
Name = Annotated[Text, StringConstraints(pattern=_NAME)]
