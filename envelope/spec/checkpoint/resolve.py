"""Traits of a model decided from what is known, strongest first: the user, the tensors, the file, its type."""

from dataclasses import dataclass, field
from typing import Any, Literal

from envelope.docstrings import field_docstrings
from envelope.spec.checkpoint.architecture import Architecture, Traits
from envelope.spec.checkpoint.fields import Fields

_ALLOWED = {
    "qk_norm": "none|head|full", "ffn_matrices": "2|3", "norms_per_sublayer": "1|2", "full_attention_every": "N",
}  # fmt: skip


@dataclass(slots=True)
class Resolved:
    """Answers what the traits are and remembers which nobody could decide."""

    fields: Fields
    architecture: Architecture | None
    tensors: Traits
    """What the names and shapes of the tensors show."""
    given: Traits
    """What the user said."""
    model_type: str
    undecided: dict[str, None] = field(default_factory=dict)
    """Traits that were asked for and that nothing decides, in order."""
    origin: dict[str, str] = field(default_factory=dict)
    """Trait → what decided it."""

    def value(self, name: str) -> Any:
        """Return the value of a trait, or ``None`` if nothing decides it."""
        for traits, origin in ((self.given, "given"), (self.tensors, "tensors")):
            if (found := getattr(traits, name)) is not None:
                self.origin[name] = origin
                return found
        if name == "tie_embeddings" and (tied := self.fields.flag("tie_word_embeddings", "tie_embeddings")) is not None:
            self.origin[name] = "file"
            return tied
        if self.architecture is not None:
            return self._by_type(self.architecture, name)
        if name in ("qkv_bias", "o_bias") and self.fields.flag("attention_bias") is False:
            # A bias that is denied is denied for every projection, whatever the type.
            self.origin[name] = "file"
            return False
        return None

    def _by_type(self, architecture: Architecture, name: str) -> Any:
        found = getattr(architecture.traits, name)
        switch = architecture.switches.get(name)
        if switch is None:
            self.origin[name] = f"type {architecture.id}"
            return found
        self.origin[name] = f"file ({switch})"
        return found if self.fields.flag(switch) else _OFF[name]

    def flag(self, name: str) -> bool:
        """Return a yes-or-no trait; an undecided one is remembered and reads as no."""
        found = self._decided(name)
        return bool(found)

    def qk_norm(self) -> Literal["none", "head", "full"]:
        """Return the normalisation of queries and keys."""
        found: Literal["none", "head", "full"] | None = self._decided("qk_norm")
        return found or "none"

    def number(self, name: str, otherwise: int) -> int:
        """Return a counting trait."""
        found = self._decided(name)
        return int(found) if found is not None else otherwise

    def full_attention_every(self, fields: Fields, kind: str) -> int:
        """Return the period of layers that see everything among windows or chunks; 0 if none of them does."""
        for name in ("sliding_window_pattern", "_sliding_window_pattern", "no_rope_layer_interval"):
            _, value = fields.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            if isinstance(value, str) and value.upper().count("G") == 1 and value.upper().endswith("G"):
                return len(value)
        return self.number("full_attention_every", 1 if kind == "window" else 0)

    def _decided(self, name: str) -> Any:
        found = self.value(name)
        if found is None:
            self.undecided[name] = None
        return found

    def complain(self) -> None:
        """Collect a problem for every undecided trait, with the option that decides it."""
        for name in self.undecided:
            allowed = _ALLOWED.get(name, "yes|no")
            meaning = field_docstrings(Traits).get(name, "").split("; ``None``")[0].rstrip(".")
            why = f"is not said by the file, and type {self.model_type!r} is not known ({meaning})"
            self.fields.wrong(name, None, why, f"say --trait {name}={allowed}, or --like TYPE")


_OFF: dict[str, Any] = {"qk_norm": "none", "full_attention_every": 1}
for _name in Traits.model_fields:
    _OFF.setdefault(_name, False)
