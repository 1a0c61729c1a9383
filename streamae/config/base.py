"""What every part of the configuration shares: frozen sections, names, texts with {placeholders}."""

import re
from dataclasses import is_dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from streamae.config.units import Text
from streamae.config.yaml_document import Interpolated

__all__ = ["Name", "Section", "no_plain_credentials", "placeholders"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


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


def placeholders(allowed: tuple[str, ...]) -> Any:
    """Return a check of a text's {placeholders}; () allows every name, one that ends in _ all that begin so."""

    def check(text: str) -> str:
        for name in _PLACEHOLDER.findall(text):
            if allowed and not any(name == one or (one[-1] == "_" and name.startswith(one)) for one in allowed):
                choice = ", ".join("{" + (one + "NAME" if one[-1] == "_" else one) + "}" for one in allowed)
                raise ValueError(f"use only {choice} in braces, not {{{name}}}")
        if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
            raise ValueError("close each brace that is opened, as in {line}")
        return text

    return check


def no_plain_credentials(value: Any) -> Any:
    """Refuse headers that carry a secret in clear text; for a validator that runs before all others."""
    headers = value.get("headers") if isinstance(value, dict) else None
    for name, text in headers.items() if isinstance(headers, dict) else ():
        secret = re.search("auth|token|key|cookie|secret", str(name), re.IGNORECASE)
        plain = not isinstance(text, Interpolated) and not str(text).startswith(("file:", "credential:"))
        if secret and plain:
            raise PydanticCustomError(
                "secret_header",
                "keep {name} out of this file: write file:/path, credential:name or ${VARIABLE}",
                {"name": name},
            )
    return value


Name = Annotated[Text, StringConstraints(pattern=_NAME)]
