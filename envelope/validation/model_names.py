"""Foreign model names → models of the catalog, and a stand-in of the stated size for models that it lacks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from envelope.spec.load import load_all
from envelope.spec.model import Model
from envelope.validation.names import by_rule, key, rules
from envelope.validation.standin import standin

_GGUF = re.compile(
    r"[-_. ](?:UD[-_])?(IQ\d_[A-Z]+|Q\d_K_XL|Q\d_K_[SML]|Q\d_[01K]"
    r"|BF16|F16|MXFP4|NVFP4|FP8|FP4|INT4|INT8|AWQ|GPTQ|W4A16)"
    r"(?:[-_](?:KV|Dynamic|MOE|G\d+))?(?:\.gguf)?$",
    re.IGNORECASE,
)
_SUFFIXES = (
    "instruct", "chat", "it", "hf", "base", "thinking", "preview", "gguf", "edge", "tool", "latest", "turbo",
    "2407", "2409", "2411", "2412", "2501", "2503", "2506", "2507", "2512", "0324", "0528", "0905", "v0.1", "v0.2",
    "v0.3", "4k", "8k", "128k", "16e", "128e", "17b",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model found by a foreign name."""

    model: Model
    weights: str | None
    """Weight format that the name carries, as written."""
    assumed: bool
    """Whether a sibling or a synthetic model of the stated size stands in for an unknown one."""


@cache
def find_model(name: str) -> FoundModel | None:
    """Return the model that a foreign name means.

    A name that the catalog lacks falls back to the sibling that ``names.yaml`` gives, else to a synthetic
    architecture of the size in the name (``Foo-14B``, ``Bar-120B-A12B``); both are marked as assumed.
    """
    stem, weights = split_format(name)
    table = _aliases()
    found = match(stem, table)
    if found is not None:
        return FoundModel(table[found], weights, assumed=False)
    rule = by_rule(name, rules().models)
    if rule is not None and rule.id in _ids():
        return FoundModel(_ids()[rule.id], weights, assumed=True)
    size = size_in(stem)
    return FoundModel(standin(stem, *size), weights, assumed=True) if size else None


def split_format(name: str) -> tuple[str, str | None]:
    """Return a model name without its organisation, and the weight format at its end.

    >>> split_format("unsloth/Qwen3.6-35B-A3B-UD-Q4_K_XL")
    ('Qwen3.6-35B-A3B', 'Q4_K_XL')
    """
    stem = re.sub(r"\s*\(.*?\)", "", name).strip().rsplit("/", 1)[-1]
    match_ = _GGUF.search(stem)
    return (stem[: match_.start()], match_[1].upper()) if match_ else (stem, None)


@cache
def _ids() -> Mapping[str, Model]:
    return {m.id: m for m in load_all(Model, "models")}


@cache
def _aliases() -> Mapping[str, Model]:
    table: dict[str, Model] = {}
    for model in _ids().values():
        for alias in (model.id, model.name, *model.aliases):
            table.setdefault(key(alias), model)
            table.setdefault(key(split_format(alias)[0]), model)
    return table


def match(stem: str, known: Mapping[str, object]) -> str | None:
    """Return the key of ``known`` that a name means, dropping words that do not tell models apart."""
    words = [w for w in re.split(r"[-_\s:]+", stem.lower().replace("nvidia-", "")) if w]
    for candidate in _shortenings(words):
        for form in (candidate, f"{candidate}instruct", f"{candidate}it", f"{candidate}chat"):
            if form in known:
                return form
    return None


def _shortenings(words: Sequence[str]) -> list[str]:
    """Return the compact forms of a name, the fullest first."""
    forms = ["".join(words)]
    kept = [w for w in words if w not in _SUFFIXES]
    forms.append("".join(kept))
    unversioned = [re.sub(r"^v(?=\d)", "", w) for w in kept]
    forms.append("".join(unversioned))
    forms.append("".join(re.sub(r"^(llama|qwen|gemma|phi)(?=\d)", r"\1", w) for w in unversioned))
    return list(dict.fromkeys(re.sub(r"[^a-z0-9.]", "", f) for f in forms if f))


def size_in(name: str) -> tuple[float, float] | None:
    """Return total and active parameters stated in a name, or ``None``.

    >>> size_in("Foo-120B-A12B")
    (120000000000.0, 12000000000.0)
    """
    text = name.lower()
    many = re.search(r"(\d+)x(\d+(?:\.\d+)?)b\b", text)
    if many:
        experts, each = int(many[1]), float(many[2]) * 1e9
        return 0.85 * experts * each, min(0.85 * 2 * each + 0.1 * each, experts * each)
    total = re.search(r"(?<![a-z\d.])(\d+(?:\.\d+)?)b(?![a-z])", text)
    if not total:
        return None
    active = re.search(r"(?<![a-z])a(\d+(?:\.\d+)?)b", text)
    size = float(total[1]) * 1e9
    return size, float(active[1]) * 1e9 if active else size
