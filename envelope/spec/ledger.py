"""The ecosystem around a line of models: what runs it, what adapts and guards it, and who can work with it."""

from typing import Annotated

from pydantic import Field

from envelope.provenance import Frozen, Sourced

Names = tuple[Annotated[str, Field(min_length=1)], ...]


class Ledger(Sourced):
    """Facts about one developer's line of models; ages, cadence and licences come from the models themselves."""

    id: str
    name: str
    developers: Names
    """Developers in the catalog of models whose releases belong to the line."""
    families: Names
    """Beginnings of the catalog's family names that belong to it, such as ``llama-`` or ``qwen``."""
    engines: Names = ()
    """Serving engines that document support for the line, by catalog id."""
    formats: Names = ()
    """Weight formats in which its developer publishes checkpoints, by catalog id."""
    adapter_recipes: Names = ()
    """Published programs or recipes for adapters and fine-tuning."""
    community_quants: Names = ()
    """Formats in which others publish it widely, by catalog id."""
    guard_models: Names = ()
    """Safety classifiers built on the line."""
    hiring_pool: str | None = None
    """How easily people who know it are found; ``None`` where no figure was found."""
    note: str = ""


class LedgerRules(Frozen):
    """Hard limits on the ecosystem of every model that a candidate runs itself; ``None`` is no limit."""

    engines_min: int | None = Field(default=None, ge=1)
    """Serving engines that must support the line, so that one engine's end is not the service's."""
    age_min_months: float | None = Field(default=None, ge=0)
    """Months since the model's release before service begins."""
    licences_max: int | None = Field(default=None, ge=1)
    """Different licences under which the line has been released: many mean that terms change."""
    adapter_recipe: bool = False
    """Whether a published recipe for adapters is needed."""
    guard_model: bool = False
    """Whether a guard model of the same line is needed."""
