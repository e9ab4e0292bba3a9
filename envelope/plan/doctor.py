"""The state of an installation: packages, compiled kernel, folders, evidence behind the facts, and what is old."""

import os
import platform
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from envelope.errors import InputError
from envelope.money.prices import price_ages
from envelope.processor import processor_name
from envelope.provenance import Frozen, Sourced
from envelope.sensors.conditions import probed_name
from envelope.sensors.gpu import gpu_facts
from envelope.serving.compiled import available, is_ready
from envelope.spec import folders, load
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile, ServerProfile
from envelope.spec.hosted import HostedModel
from envelope.spec.licence import Licence
from envelope.spec.model import Model
from envelope.version import __version__

_DISTRIBUTION = "deployment-envelope"
_KINDS: dict[str, type[Sourced]] = {
    "models": Model, "hardware_profiles": HardwareProfile, "servers": ServerProfile, "hosted": HostedModel,
    "licences": Licence, "engines": Engine,
}  # fmt: skip
"""Folder → record, of the facts whose evidence is counted."""


class Package(Frozen):
    """One third-party package."""

    name: str
    wanted: str
    """Versions that the package asks for, such as ``>=2.0``."""
    installed: str | None
    """Installed version; ``None`` if it is not there."""
    extra: str
    """Extra that brings it; empty for what is always needed."""


class Profile(Frozen):
    """A hardware profile that a probe wrote."""

    id: str
    date: str
    this_machine: bool
    """Whether it names the processor, or a GPU, of this machine, which has as many cores."""
    complete: bool
    warnings: tuple[str, ...]


class Folder(Frozen):
    """A folder that records or machine code go to."""

    purpose: str
    path: str
    writable: bool


class Stale(Frozen):
    """Facts of one kind whose date is older than asked for."""

    kind: str
    count: int
    old: int
    oldest: str
    """Date of the oldest one; empty if there are none."""


class Health(Frozen):
    """What ``envelope doctor`` says."""

    version: str
    python: str
    system: str
    processor: str
    packages: tuple[Package, ...]
    missing_extras: tuple[str, ...]
    """Extras of which a package is missing."""
    kernel: str
    """``ready``, ``not compiled yet`` or ``not installed``."""
    folders: tuple[Folder, ...]
    evidence: dict[str, dict[str, int]]
    """Kind of record → how their numbers were got → how many statements of a source."""
    broken: tuple[str, ...]
    """Records that do not load, with what is wrong."""
    probed: tuple[Profile, ...]
    stale: tuple[Stale, ...]
    stale_days: int


def examine(today: date, *, stale_days: int = 180) -> Health:
    """Return the state of this installation; prices and facts older than ``stale_days`` on ``today`` count as stale."""
    packages = _packages()
    records, broken = _records()
    incomplete = {p.extra for p in packages if p.extra and p.installed is None}
    return Health(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        processor=processor_name(),
        packages=packages,
        missing_extras=tuple(sorted(incomplete)),
        kernel="not installed" if not available() else "ready" if is_ready() else "not compiled yet",
        folders=_folders(),
        evidence={kind: _evidence(found) for kind, found in records.items()},
        broken=broken,
        probed=_probed([r for r in records.get("hardware_profiles", []) if isinstance(r, HardwareProfile)]),
        stale=_stale(records, today, stale_days),
        stale_days=stale_days,
    )


def _packages() -> tuple[Package, ...]:
    """Return what the distribution asks for; nothing where only the source tree is there."""
    try:
        wanted = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return ()
    found: dict[str, Package] = {}
    for text in wanted:
        match = re.match(r"([A-Za-z0-9._-]+)(\[[^]]*\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?", text)
        if match is None or match[1] == _DISTRIBUTION or match[4] in ("dev", "all"):
            continue
        package = Package(name=match[1], wanted=match[3].strip(), installed=_version(match[1]), extra=match[4] or "")
        found.setdefault(package.name, package)
    return tuple(sorted(found.values(), key=lambda p: (p.extra, p.name)))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _records() -> tuple[dict[str, list[Any]], tuple[str, ...]]:
    """Return every record that loads, by kind, and what is wrong with those that do not."""
    found: dict[str, list[Any]] = {}
    broken: list[str] = []
    for kind, cls in _KINDS.items():
        found[kind] = []
        for ident in load.ids(kind):
            try:
                found[kind].append(load.load(cls, kind, ident, file="doctor", path=kind))
            except InputError as error:
                broken.extend(str(p) for p in error.problems)
    return found, tuple(broken)


def _evidence(records: list[Any]) -> dict[str, int]:
    """Count the sources of records, and of efficiency curves within them, by class of evidence."""
    return dict(Counter(evidence for record in records for evidence in _classes(record)))


def _classes(record: Any) -> Iterator[str]:
    for source in record.sources.values():
        yield str(source.evidence)
    for curve in getattr(record, "efficiency", ()):
        yield str(curve.evidence)


def _probed(profiles: list[HardwareProfile]) -> tuple[Profile, ...]:
    here = _names_here()
    return tuple(
        Profile(
            id=profile.id,
            date=profile.conditions.date,
            this_machine=profile.name in here[profile.device_class == "cpu"]
            and profile.conditions.cores_online == (os.cpu_count() or 1),
            complete=profile.conditions.complete,
            warnings=profile.conditions.warnings,
        )
        for profile in profiles
        if profile.conditions is not None
    )


def _names_here() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a probe of this machine gives: those of GPUs, and those of the processor."""
    gpus = gpu_facts()
    threads = range(1, (os.cpu_count() or 1) + 1)
    return (
        frozenset(probed_name(gpu.name) for gpu in gpus) if isinstance(gpus, list) else frozenset(),
        frozenset(probed_name(processor_name(), n) for n in threads),
    )


def _folders() -> tuple[Folder, ...]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    purposes = {"your own records": folders.writable_data_dir(), "compiled kernel": cache, "here": Path.cwd()}
    return tuple(Folder(purpose=p, path=str(folder), writable=_writable(folder)) for p, folder in purposes.items())


def _writable(folder: Path) -> bool:
    """Return whether a file could be written there; a folder that does not exist yet counts by its parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _stale(records: dict[str, list[Any]], today: date, days: int) -> tuple[Stale, ...]:
    """Return what is old among prices, by kind, and among facts, by the date of each record's default source."""
    dated: dict[str, list[tuple[int, str]]] = {}
    for age in price_ages(today):
        dated.setdefault(f"prices: {age.kind}", []).append((age.age_days, age.date))
    for kind in ("models", "licences", "engines"):
        dates = [record.sources["default"].date for record in records[kind]]
        dated[f"facts: {kind}"] = [((today - _end_of(text)).days, text) for text in dates]
    return tuple(
        Stale(
            kind=kind,
            count=len(ages),
            old=sum(age > days for age, _ in ages),
            oldest=max(ages)[1] if ages else "",
        )
        for kind, ages in sorted(dated.items())
    )


def _end_of(text: str) -> date:
    """Return the day that a date means; of a year or month alone, a day near its end."""
    parts = [int(part) for part in text.split("-")]
    return date(parts[0], parts[1] if len(parts) > 1 else 12, parts[2] if len(parts) > 2 else 28)
