"""The number formats of a model's weights: of its own checkpoint, of a published edition, of a format asked for."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from envelope.errors import InputError, Problem, nearest, unknown_name
from envelope.spec.load import load, load_all
from envelope.spec.model import Edition, GatedDeltaNet, Mamba1, Mamba2, Model
from envelope.spec.number_format import NumberFormat

Weights = NumberFormat | Literal["native"]


def shares_of(
    model: Model, part: str, weights: Weights, formats: Mapping[str, NumberFormat], *, projection: str = ""
) -> dict[str, float]:
    """Return format id → share of the weights of a tensor class of ``model``, or of one of its projections.

    ``native``, or naming the checkpoint's own format, takes the checkpoint as shipped: ``format_by_part``, else
    ``native_format`` with its wide parts. Any other format re-quantises all but the parts that a published edition
    of this model in that format, or else the format itself, keeps wide. Shares sum to 1.
    """
    if weights == "native" or weights.id == model.native_format:
        base, said = formats[model.native_format], model.format_by_part
    else:
        edition = edition_in(model, weights.id)
        base, said = weights, edition.format_by_part if edition is not None else {}
    entry = said.get(projection, said.get(part))
    if entry is None:
        entry = usual_format(model, base, part)
    if isinstance(entry, str):
        return {entry: 1.0}
    rest = 1.0 - sum(entry.values())
    return {**entry, base.id: entry.get(base.id, 0.0) + rest} if rest > 1e-9 else dict(entry)


def usual_format(model: Model, base: NumberFormat, part: str) -> str:
    """Return what the format itself keeps a tensor class of this model in."""
    wide = base.moe_wide_parts.get(part) if model.moe is not None else None
    return wide or base.wide_parts.get(part, base.id)


def edition_in(model: Model, format_id: str) -> Edition | None:
    """Return the edition that naming a format means: the first published one in it."""
    return next((edition for edition in model.editions.values() if edition.format == format_id), None)


@lru_cache(maxsize=256)
def in_edition(model: Model, checkpoint: str) -> Model:
    """Return the model with one of its editions as the only one in that format, so that naming the format means it."""
    chosen = model.editions[checkpoint]
    others = {name: e for name, e in model.editions.items() if e.format != chosen.format}
    return model.changed(editions={checkpoint: chosen, **others})


def weights_named(model: Model, name: str, *, file: str, path: str) -> tuple[Model, NumberFormat | None]:
    """Return the model and the format of the weights that a name means: ``native``, a format, or an edition.

    The format is ``None`` for ``native``. An edition is named by its repository, such as
    ``nvidia/Llama-3.1-405B-Instruct-FP8``, and stands in the model that is returned. Raises ``InputError`` for an
    unknown name, for an edition of another model, and for a format that would quantise nothing of this one.
    """
    if name == "native":
        return model, None
    checkpoint = _edition_called(model, name)
    if checkpoint is not None:
        return in_edition(model, checkpoint), _load(model.editions[checkpoint].format, file, path)
    owner = next((m for m in load_all(Model, "models") if _edition_called(m, name) is not None), None)
    if owner is not None:
        rule = f"is an edition of {owner.id}, not of {model.id}"
        raise InputError(Problem(file, path, name, rule, _instead(model, name)))
    if "/" in name:
        raise unknown_name(file, path, name, model.editions or ["native"], "formats")
    found = _load(name, file, path)
    _check_quantises(model, found, name, file=file, path=path)
    return model, found


def _edition_called(model: Model, name: str) -> str | None:
    wanted = name.strip().lower()
    return next((checkpoint for checkpoint in model.editions if checkpoint.lower() == wanted), None)


def _instead(model: Model, name: str) -> str:
    if not model.editions:
        return f"{model.id} has no edition; name a format, list: envelope formats"
    return f"nearest {', '.join(repr(n) for n in nearest(name, model.editions))}"


def _load(name: str, file: str, path: str) -> NumberFormat:
    return load(NumberFormat, "formats", name, file=file, path=path)


def _check_quantises(model: Model, weights: NumberFormat, name: str, *, file: str, path: str) -> None:
    """Raise ``InputError`` if nothing of the model would stand in the format, or if only other models come in it."""
    if weights.id == model.native_format or edition_in(model, weights.id) is not None:
        return
    if weights.families and model.family not in weights.families:
        rule = f"is a format of {', '.join(weights.families)} checkpoints alone, not of {model.id}"
    elif not quantises(model, weights):
        kept = ", ".join(part for part in _parts(model) if usual_format(model, weights, part) != weights.id)
        rule = f"would quantise nothing of {model.id}: it leaves {kept} as they are"
    else:
        return
    near = ", ".join(repr(f.id) for f in _nearest_formats(model, weights))
    raise InputError(Problem(file, path, name, rule, f"nearest {near}; list: envelope formats"))


def quantises(model: Model, weights: NumberFormat) -> bool:
    """Return whether the format by itself would hold any tensor class of the model's layers."""
    return any(usual_format(model, weights, part) == weights.id for part in _parts(model))


def _parts(model: Model) -> list[str]:
    """Return the tensor classes of the model's layers that formats are made for."""
    used = [model.attention[layer.attention] for layer in model.layer_counts if layer.attention is not None]
    recurrent = [isinstance(item, GatedDeltaNet | Mamba1 | Mamba2) for item in used]
    found = ["attention"] if not all(recurrent) else []
    found += ["linear_attention"] if any(recurrent) else []
    found += ["dense_ffn"] if model.dense_ffn is not None else []
    if model.moe is not None:
        found += ["routed_experts"] + (["shared_experts"] if model.moe.shared_width else [])
    return found


def _nearest_formats(model: Model, weights: NumberFormat, limit: int = 2) -> list[NumberFormat]:
    """Return the formats that do quantise this model, of the same family and with the nearest bits per weight."""
    fitting = [f for f in load_all(NumberFormat, "formats") if f.weights and not f.families and quantises(model, f)]
    near = [f for f in fitting if f.id != weights.id and f.bits_per_weight < 16]
    near.sort(key=lambda f: (f.family != weights.family, abs(f.bits_per_weight - weights.bits_per_weight)))
    return near[:limit]
