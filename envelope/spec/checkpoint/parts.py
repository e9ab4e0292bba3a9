"""Which share of each part of a model stands in which format, from the modules that a checkpoint names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate

from envelope.spec.checkpoint.formats import Quantisation
from envelope.spec.checkpoint.modules import Matrix, head_of, matrices_of
from envelope.spec.editions import usual_format
from envelope.spec.load import load_all
from envelope.spec.model import Layer, Model, PartFormats
from envelope.spec.number_format import NumberFormat

MOST_NAMES = 200_000
"""Most names that are looked at; the longest published list has 22,000."""
_PREFIXES = ("model.", "", "language_model.model.", "model.language_model.", "backbone.", "transformer.")
_PATH = {step for prefix in _PREFIXES for step in prefix.split(".")} | {"thinker", "llm", "text_model", "decoder"}
"""Steps of a name that lead to the language model's layers."""
_NESTED = re.compile(r"\([^()]*[+*}][^()]*\)[+*{]")
"""A repetition of a repetition, whose matching may take for ever."""
_ONLY_IF_NAMED = ("lm_head", "router")
"""Tensor classes that tools leave alone unless they are named."""


@dataclass(slots=True)
class Names:
    """Names of modules as checkpoints list them: literal, with wildcards, or ``re:`` expressions.

    A name stands for the module and all within it, at whatever depth the language model lies in the checkpoint.
    """

    literal: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Layer → names within it."""
    wild: dict[int, list[re.Pattern[str]]] = field(default_factory=lambda: defaultdict(list))
    """Layer → wildcards within it."""
    loose: list[str] = field(default_factory=list)
    """Names without a layer, such as ``lm_head`` or ``self_attn``."""
    general: list[re.Pattern[str]] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Take one name in; an expression that could match for ever is left out."""
        if len(name) > 500:
            return
        if name.startswith("re:"):
            pattern = _compiled(name[3:])
            self.general += [pattern] if pattern is not None else []
            return
        name = re.sub(r"\.experts\.\d+(?=\.|$)", ".experts.0", name.strip("."))
        found = re.search(r"(?:^|\.)layers\.(\d{1,4})(?:\.(.*)|(\*))?$", name)
        if found is None:
            if "*" in name:
                self.general += [re.compile(translate(n)) for n in (name, f"*.{name}", f"*.{name}.*", f"{name}.*")]
            else:
                self.loose.append(name)
            return
        if not set(name[: found.start()].split(".")) <= _PATH:
            return  # layers of an encoder or of a draft module
        layer, inside = int(found[1]), found[2] or "*"
        if "*" in inside:
            self.wild[layer] += [re.compile(translate(inside)), re.compile(translate(f"{inside}.*"))]
        else:
            self.literal[layer].add(inside)

    def holds(self, matrix: Matrix, layer: int | None) -> bool:
        """Return whether one of the names stands for a matrix of a layer (of none: the head)."""
        return any(self._holds(name, layer) for name in matrix.names)

    def _holds(self, name: str, layer: int | None) -> bool:
        if layer is not None:
            steps = name.split(".")
            literal = self.literal.get(layer)
            if literal and any(".".join(steps[:n]) in literal for n in range(1, len(steps) + 1)):
                return True
            if any(pattern.match(name) for pattern in self.wild.get(layer, ())):
                return True
        whole = name if layer is None else f"layers.{layer}.{name}"
        if any(f".{loose}." in f".{whole}." or f".{whole}." in f".{loose}." for loose in self.loose):
            return True
        return any(pattern.match(prefix + whole) for pattern in self.general for prefix in _PREFIXES)


def _compiled(expression: str) -> re.Pattern[str] | None:
    if _NESTED.search(expression):
        return None
    try:
        return re.compile(expression)
    except re.error:
        return None


def names_of(names: Iterable[str]) -> Names:
    """Return names ready to be asked."""
    found = Names()
    for number, name in enumerate(names):
        if number < MOST_NAMES:
            found.add(name)
    return found


def format_by_part(model: Model, quantised: Quantisation) -> PartFormats:
    """Return what differs from what the main format itself would do, by tensor class or projection.

    Shares are exact: of the weights that the model's layers have under the names listed.
    """
    formats = {f.id: f for f in load_all(NumberFormat, "formats")}
    main = formats[quantised.main]
    if not quantised.kept and not quantised.assigned and quantised.everywhere:
        return {} if main.families else _whole(model, quantised, main)
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for part, projection, name, params in _standing(model, quantised):
        found[part][projection][name] += params
    entries: PartFormats = {}
    for part, projections in found.items():
        usual = usual_format(model, main, part)
        entries |= _entries(part, projections, quantised.main, usual, formats)
    return entries


def _standing(model: Model, q: Quantisation) -> Iterator[tuple[str, str, str, int]]:
    """Yield tensor class, projection, format and weights of every matrix that the checkpoint decides."""
    kept = names_of(q.kept)
    assigned: dict[str, Names] = {}
    for name, number_format in q.assigned[:MOST_NAMES]:
        assigned.setdefault(number_format, Names()).add(name)

    def standing(matrix: Matrix, layer: int | None) -> str | None:
        own = next((f for f, names in assigned.items() if names.holds(matrix, layer)), None)
        if matrix.part in _ONLY_IF_NAMED:
            return own
        if kept.holds(matrix, layer):
            return q.wide
        return own or (q.main if q.everywhere else q.wide)

    order = [layer for blocks in model.layer_pattern for _ in range(blocks.repeat) for layer in blocks.block]
    by_kind: dict[Layer, list[Matrix]] = {layer: matrices_of(model, layer) for layer in set(order)}
    for index, layer in enumerate(order):
        for matrix in by_kind[layer]:
            stored = standing(matrix, index)
            if stored is not None:
                yield matrix.part, matrix.projection, stored, matrix.params
    head = head_of(model)
    stored = standing(head, None)
    if stored is not None and not model.tie_embeddings:
        yield head.part, head.projection, stored, head.params


def _entries(
    part: str,
    projections: Mapping[str, Counter[str]],
    main: str,
    usual: str,
    formats: Mapping[str, NumberFormat],
) -> PartFormats:
    """Return the fewest entries that say in which formats the projections of a class stand."""
    said = {name: _entry(counts, main) for name, counts in projections.items()}
    weights = {name: counts.total() for name, counts in projections.items()}
    # The class takes what most of its weights say; a mixture only if all of it is mixed alike.
    plain = [name for name, entry in said.items() if isinstance(entry, str)]
    first = next(iter(said.values()))
    whole: str | dict[str, float] = first
    if any(entry != first for entry in said.values()):
        whole = said[max(plain, key=lambda name: weights[name])] if plain else usual
    found: PartFormats = {}
    same_width = isinstance(whole, str) and formats[whole].bits_per_weight == formats[usual].bits_per_weight
    if whole != usual and not (same_width and part in _ONLY_IF_NAMED):
        found[part] = whole
    return found | {name: entry for name, entry in said.items() if entry != whole and name != part}


def _entry(counts: Counter[str], main: str) -> str | dict[str, float]:
    whole = counts.total()
    if len(counts) == 1:
        return next(iter(counts))
    return {name: round(n / whole, 6) for name, n in counts.most_common() if name != main}


def _whole(model: Model, q: Quantisation, main: NumberFormat) -> PartFormats:
    """Return what a format that names nothing quantises although by itself it would leave it wide (INT4 experts)."""
    found: PartFormats = {}
    if q.main == q.wide or main.family in {"gguf", "onnx"}:
        return found
    present = {matrix.part for layer in model.layer_counts for matrix in matrices_of(model, layer)}
    for part in sorted(present - set(_ONLY_IF_NAMED) - {"indexer"}):
        if usual_format(model, main, part) != main.id:
            found[part] = main.id
    return found
