"""Foreign names → ids of the catalog: devices, engines, number formats and models as other people write them.

Order of trust: a rule of ``names.yaml``, an alias of the catalog, the alias that shares the name's telling words.
Numbers in a name (4070, 8B, A3B) must agree; words such as *Instruct* or *NVIDIA* need not.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from envelope.provenance import Frozen
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load_all, validate
from envelope.spec.number_format import NumberFormat
from envelope.spec.yaml_text import read_yaml

_FILE = Path(__file__).with_name("names.yaml")


class _Rule(Frozen):
    match: str
    id: str
    count: int | None = None


class _Version(Frozen):
    engine: str
    below: str
    id: str


class _Thread(Frozen):
    """Releases of an engine by the number of the newest issue or pull request when they came out."""

    repository: str
    releases: tuple[tuple[int, str], ...]
    """(number, version), ascending."""


class _Rules(Frozen):
    devices: tuple[_Rule, ...]
    engines: tuple[_Rule, ...]
    engine_versions: tuple[_Version, ...]
    block_fp8: tuple[str, ...]
    """Patterns of checkpoints whose FP8 is scaled by blocks, whatever a table calls it."""
    threads: tuple[_Thread, ...]
    unstated_versions: dict[str, str] = {}
    """Engine → version that a start-up log is taken for which states none."""
    formats: tuple[_Rule, ...]
    models: tuple[_Rule, ...]
    noise: tuple[str, ...]
    telling: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A device found by a foreign name."""

    profile: HardwareProfile
    count: int
    """Devices that the name itself speaks of (a dual card, a cluster); 1 otherwise."""
    host: str = ""
    """The host computer, where the name says which one."""


@cache
def rules() -> _Rules:
    """Return the name rules."""
    return validate(_Rules, read_yaml(_FILE), str(_FILE))


def by_rule(text: str, table: Iterable[_Rule]) -> _Rule | None:
    """Return the first rule whose pattern is found in ``text``, ignoring case."""
    return next((rule for rule in table if re.search(rule.match, text, re.IGNORECASE)), None)


def key(text: str) -> str:
    """Return a name without case, punctuation and typographic hyphens."""
    return re.sub(r"[^a-z0-9.]+", "", text.lower().replace("‑", "-"))


# Devices


def find_device(name: str) -> Device | None:
    """Return the device that decides the speed: of a host with a card in brackets, the card.

    >>> find_device("Pi CM5 - 16GB (Nvidia RTX 3080 Ti)").profile.id
    'nvidia-rtx-3080-ti-12gb'
    """
    text = re.sub(r"macbook (pro|air)", "", name.replace("‑", "-"), flags=re.IGNORECASE).strip()
    named = _exactly(text)
    if named is not None:
        return Device(named, 1)
    rule = by_rule(text, rules().devices)
    if rule is not None:
        found = _profiles_by_id().get(rule.id)
        return Device(found, rule.count or 1) if found else None
    inner = re.search(r"\(([^()]*(?:\([^()]*\))?[^()]*)\)", text)
    if inner and _CARD.search(inner[1]):
        card, host = _device(inner[1]), text[: inner.start()].strip()
        return Device(card, 1, host) if card is not None else None
    found = _device(text)
    if found is None and inner:
        found = _device(text[: inner.start()]) or _device(inner[1])
    if found is None and "/" in text:
        found = next((p for part in text.split("/") if (p := _device(part)) is not None), None)
    return Device(found, 1) if found else None


_CARD = re.compile(r"nvidia|geforce|rtx|gtx|radeon|\bamd (ai )?(rx|pro|\d)|\brx \d|intel arc|\b\d{4}\b", re.IGNORECASE)


@cache
def _profiles_by_id() -> dict[str, HardwareProfile]:
    return {p.id: p for p in load_all(HardwareProfile, "hardware_profiles")}


@cache
def _device_aliases() -> tuple[tuple[str, frozenset[str], HardwareProfile], ...]:
    return tuple(
        (key(alias), _tokens(alias), profile)
        for profile in _profiles_by_id().values()
        for alias in (profile.id, profile.name, *profile.aliases)
    )


def _exactly(text: str) -> HardwareProfile | None:
    wanted = key(text)
    return next((profile for alias, _, profile in _device_aliases() if alias == wanted), None)


@cache
def _device(text: str) -> HardwareProfile | None:
    wanted = key(text)
    named = _exactly(text)
    if named is not None:
        return named
    tokens = _tokens(text)
    if not any(_is_number(t) for t in tokens):
        plain = [p for alias, _, p in _device_aliases() if len(alias) > 4 and alias in wanted]
        return plain[0] if plain else None
    scored = [(_agreement(tokens, alias), -len(alias), p) for _, alias, p in _device_aliases()]
    best = max(scored, key=lambda s: s[:2])
    return best[2] if best[0] >= _ENOUGH else None


_ENOUGH = 3.0
_UNSIZED = re.compile(r"^\d+(gb|g|gib|w)$")


def _tokens(text: str) -> frozenset[str]:
    """Return the words of a name; numbers stay with the letters before them (``a100``, ``b580``)."""
    spaced = re.sub(r"(?<=\d)(?=(ti|super|xtx|xt|gre)\b)", " ", text.lower().replace("‑", "-"))
    spaced = re.sub(r"\b(\d+)[ -]?core\b", r"\1core", spaced)
    spaced = re.sub(r"\((r|tm)\)", "", spaced)
    words = re.findall(r"[a-z]+[0-9]*[a-z]*|\d+(?:\.\d+)?[a-z]*", spaced)
    return frozenset(w for w in words if w not in rules().noise)


def _is_number(token: str) -> bool:
    return any(c.isdigit() for c in token) and not _UNSIZED.match(token) and not token.endswith("core")


def _agreement(tokens: frozenset[str], alias: frozenset[str]) -> float:
    """Return how well two names agree; a model number on one side only, or another variant, rules a match out."""
    telling = rules().telling
    for token in tokens ^ alias:
        missing = token in alias
        if (_is_number(token) and missing) or token in telling:
            return -1.0
    common = tokens & alias
    score = sum(3.0 if _is_number(t) else 1.5 if _UNSIZED.match(t) or t.endswith("core") else 1.0 for t in common)
    odd = sum(1.0 if _is_number(t) else 0.3 for t in tokens - alias)
    sizes = sum(1.0 for t in alias - tokens if _UNSIZED.match(t) or t.endswith("core"))
    return score - odd - 0.1 * sizes


# Engines and formats


@cache
def find_engine(name: str, version: str = "") -> Engine | None:
    """Return the engine that a foreign name means (``TensorRT 10.11, CUDA 12.9`` → TensorRT-LLM).

    Versions before a change of the scheduler have a record of their own.
    """
    found = _engine_of(name)
    stated = re.search(r"(\d+)[.-](\d+)", version)
    if found is None or stated is None:
        return found
    for rule in rules().engine_versions:
        below = [int(part) for part in rule.below.split(".")]
        if rule.engine == found.id and [int(stated[1]), int(stated[2])] < below:
            return _engines()[rule.id]
    return found


def version_number(text: str | None) -> str | None:
    """Return the version at the start of a text (``0.19.2rc1``, ``v0.8 (V0)``) as numbers, or ``None``."""
    found = re.match(r"v?(\d+(?:\.\d+){0,3})", text or "")
    return found[1] if found else None


def usual_version(engine: str) -> str | None:
    """Return the version for which a start-up log of an engine is taken that states none; ``None`` is the newest."""
    return rules().unstated_versions.get(engine)


def version_of_thread(url: str) -> str | None:
    """Return the release that was the newest when a thread of an engine's repository began, or ``None``.

    >>> version_of_thread("https://github.com/vllm-project/vllm/issues/13074")
    '0.7'
    """
    found = re.search(r"github\.com/([\w.-]+/[\w.-]+)/(?:issues|pull)/(\d+)", url)
    if found is None:
        return None
    number = int(found[2])
    for thread in rules().threads:
        if thread.repository == found[1]:
            return max(((n, v) for n, v in thread.releases if n <= number), default=(0, None))[1]
    return None


@cache
def _engines() -> dict[str, Engine]:
    return {e.id: e for e in load_all(Engine, "engines")}


def _engine_of(name: str) -> Engine | None:
    records = _engines()
    rule = by_rule(name, rules().engines)
    if rule is not None and rule.id in records:
        return records[rule.id]
    wanted = key(name)
    for record in records.values():
        if wanted in {key(alias) for alias in (record.id, record.name, *record.aliases)}:
            return record
    return None


@cache
def find_format(name: str) -> NumberFormat | None:
    """Return the number format that a foreign name means (``q4_k_m-class (Ollama default tag)`` → Q4_K_M)."""
    records = {f.id: f for f in load_all(NumberFormat, "formats")}
    wanted = key(name)
    for record in records.values():
        if wanted in {key(alias) for alias in (record.id, record.name, *record.aliases)}:
            return record
    rule = by_rule(name, rules().formats)
    if rule is not None and rule.id in records:
        return records[rule.id]
    words = [w for w in re.split(r"[\s,(/]+", name) if w]
    return next((found for w in words if w != name and (found := find_format(w)) is not None), None)
