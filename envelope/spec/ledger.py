"""The ecosystem around a line of models: what runs it, what adapts and guards it, and who can work with it."""

from typing import Annotated

from pydantic import Field

from envelope.provenance import Evidence, Frozen, Sourced

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
    """How many people work with it, by whatever published figure stands for them; ``None`` where none was found."""
    note: str = ""

    def sourced(self, field: str) -> Names:
        """Return the entries of a field that were read from a source, without those that are assumed."""
        names: Names = getattr(self, field)
        return tuple(n for n in names if self.source_of(f"{field}.{n}").evidence != Evidence.ASSUMED)


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
    community_quant: bool = False
    """Whether others must publish the line in a smaller format."""
    cadence_max_months: float | None = Field(default=None, gt=0)
    """Median months between releases of the line at most, so that it does not fall asleep."""
    hiring_pool: bool = False
    """Whether a published figure must stand for the people who work with the line."""
    sourced_only: bool = False
    """Whether only entries that were read from a source count, and none that is assumed."""
