"""What a pipeline is made of: a kind of machine with its topics and its model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.decode import PayloadSpec
from streamae.core.flapping import FlapRule
from streamae.core.group_rule import GroupRule
from streamae.core.profile import Profile, Reconstructor
from streamae.core.topics import Template

__all__ = ["Group"]


@dataclass(frozen=True, slots=True, eq=False)
class Group(GroupRule):
    """A kind of machine with its topics and its model: what a pipeline is made of."""

    name: str
    templates: Sequence[Template]
    payloads: Sequence[PayloadSpec]
    stream_template: str
    profile: Profile
    reconstructor: Reconstructor
    align: RowAlign | GridAlign = field(default_factory=RowAlign)
    flapping: FlapRule | None = None
