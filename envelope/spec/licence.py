"""Licences of model weights: what they allow, what they demand and from whom."""

from typing import Literal

from pydantic import Field

from envelope.provenance import Frozen, Sourced


class Territory(Frozen):
    """A place where the licence grants nothing, or less."""

    territory: str
    """As in ``Company.territory``: ``EU``, ``US``, ``DE`` …"""
    modalities: tuple[Literal["text", "image", "video", "audio"], ...] = ()
    """Only models with one of these modalities are excluded; empty means all."""
    scope: str = ""
    """Whom it concerns, in words."""


class Licence(Sourced):
    """Terms under which weights may be used; amounts are those of the licence text."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    spdx: str | None = None
    """SPDX identifier, where one exists."""
    url: str | None = None
    commercial_use: bool
    user_cap: int | None = Field(default=None, gt=0)
    """Monthly active users above which ``user_cap_effect`` applies; ``None`` for no cap."""
    user_cap_measured: Literal["at_release", "continuing"] | None = None
    """Whether the cap counts users once, in the month before the model's release, or continuously."""
    user_cap_effect: Literal["licence_needed", "display_name"] | None = None
    """What happens above the cap: no rights without a separate licence, or the model's name must be shown."""
    revenue_cap_usd_per_month: float | None = Field(default=None, gt=0)
    """Monthly revenue above which ``revenue_cap_effect`` applies; a yearly cap is divided by twelve."""
    revenue_cap_effect: Literal["licence_needed", "display_name"] | None = None
    excluded_territories: tuple[Territory, ...] = ()
    attribution: str | None = None
    """Notice that must be given; ``None`` for none."""
    display_name: str | None = None
    """Name that the product must show to its users: always, or above a cap where one has that effect."""
    display_name_always: bool = False
    derivative_name_prefix: str | None = None
    """Word with which the names of derived models must start."""
    derivative_terms: str | None = None
    """Duties that come with adapted weights, in words."""
    derivatives_allowed: bool = True
    """Whether weights may be adapted (fine-tuned, merged, distilled into) for the use that the licence grants."""
    redistribution_allowed: bool = True
    """Whether the weights, or what was made of them, may be passed on to others."""
    acceptable_use: str | None = None
    """Policy that users must keep, or where it stands; ``None`` for none."""
    output_training_allowed: bool | None = None
    """Whether outputs may train other models; ``None`` where the text is silent or was not read."""
    output_terms: str | None = None
    hosting_allowed: bool = True
    """Whether offering the model as a service to third parties is allowed without another licence."""
    hosting_terms: str | None = None
    patent_grant: bool | None = None
    note: str = ""
