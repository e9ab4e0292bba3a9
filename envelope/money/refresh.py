"""Hosted tariffs taken anew from the package ``genai-prices`` (extra ``prices``).

The catalog is a dated snapshot; nothing changes it silently. A refreshed record is written by the user into a data
folder of his own, where it comes before the packaged one.
"""

import importlib
from collections.abc import Iterable
from datetime import date as Date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from envelope.errors import InputError, MissingExtraError, Problem
from envelope.provenance import Evidence, Frozen, Source
from envelope.spec import folders, load, yaml_text
from envelope.spec.hosted import HostedModel, Processing, TariffLine, TokenKind, UtcHours
from envelope.spec.yaml_text import to_yaml

_KINDS: dict[str, TokenKind] = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "output",
}
_VARIANTS: dict[tuple[str, str], Processing] = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("speed", "fast"): "fast",
}
_PROVIDERS = {"xai": "x-ai"}
"""Our name of a provider → theirs, where they differ."""


def refreshed(models: Iterable[HostedModel], day: Date) -> list[HostedModel]:
    """Return the models whose tariff in the installed ``genai-prices`` differs from the record's, with the new one.

    Prices that hold on ``day`` and those announced for later are taken; models that the package does not know are left
    out. Raises ``MissingExtraError`` if the package is not installed.
    """
    try:
        data = importlib.import_module("genai_prices.data")
    except ImportError:
        raise MissingExtraError("genai-prices", "prices") from None
    known = {(p.id, m.id): m for p in data.providers for m in p.models}
    result = []
    for model in models:
        info = known.get((_PROVIDERS.get(model.provider, model.provider), model.api_model))
        if info is None:
            continue
        tariff = tariff_lines(
            info, day, weekdays_only=any(x.utc_hours and x.utc_hours.weekdays_only for x in model.tariff)
        )
        if set(tariff) != set(model.tariff):
            origin = Source(
                source=f"genai-prices {version('genai-prices')}, bundled data",
                date=day.isoformat(),
                evidence=Evidence.DATASHEET,
                note=f"refreshed; before: {model.source_of('tariff').source}",
            )
            sources = {**model.sources, "tariff": origin}
            result.append(model.changed(tariff=tariff, sources=sources))
    return result


class TariffChange(Frozen):
    """One line of a tariff that differs; ``None`` where one of the two has no such line."""

    id: str
    line: str
    before_usd_per_mtok: float | None
    after_usd_per_mtok: float | None


def changes(before: HostedModel, after: HostedModel) -> list[TariffChange]:
    """Return the lines in which the tariffs of two records of one model differ."""
    old, new = ({_words(x): x.usd_per_mtok for x in model.tariff} for model in (before, after))
    return [
        TariffChange(id=after.id, line=name, before_usd_per_mtok=old.get(name), after_usd_per_mtok=new.get(name))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def save_tariffs(models: Iterable[HostedModel], folder: Path | None = None) -> list[Path]:
    """Write records as ``<folder>/hosted/<id>.yaml`` and return the paths.

    ``folder`` is the user's own data folder by default. The packaged catalog is never written to: its own folder is
    refused with ``InputError``.
    """
    target = folder or folders.writable_data_dir()
    written = []
    for model in models:
        path = target / "hosted" / f"{model.id}.yaml"
        if folders.is_packaged(path):
            rule = "belongs to the packaged catalog, which is a dated snapshot"
            raise InputError(Problem(str(path), "", None, rule, "give a folder of your own"))
        text = to_yaml(model)
        load.validate(HostedModel, yaml_text.parse_yaml(text, str(path)), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    folders.forget()
    return written


def _words(line: TariffLine) -> str:
    words = [line.kind.replace("_", " ")]
    words += [line.processing] if line.processing != "standard" else []
    words += [f"above {line.above_input_tokens:,} tokens"] if line.above_input_tokens else []
    words += [f"from {line.from_date}"] if line.from_date else []
    words += [f"{line.utc_hours.start:%H:%M}–{line.utc_hours.end:%H:%M} UTC"] if line.utc_hours else []
    return ", ".join(words)


def tariff_lines(info: Any, day: Date, *, weekdays_only: bool = False) -> tuple[TariffLine, ...]:
    """Return the tariff of one model of the package.

    ``weekdays_only`` marks prices by the hour as holding from Monday to Friday, which the package cannot say.
    """
    prices = info.prices if isinstance(info.prices, list) else [_Unconditional(info.prices)]
    lines = _dated(prices, day, "standard", weekdays_only)
    variants: dict[Processing, list[Any]] = {}
    for variant in info.price_variants or ():
        processing = next((_VARIANTS[pair] for pair in variant.when.items() if pair in _VARIANTS), None)
        if processing is not None:
            variants.setdefault(processing, []).append(variant)
    for processing, found in variants.items():
        lines += _dated(found, day, processing, weekdays_only)
    return tuple(lines)


class _Unconditional:
    """A price without condition, in the shape of the package's conditional prices."""

    def __init__(self, prices: Any) -> None:
        self.prices, self.constraint = prices, None


def _dated(conditional: list[Any], day: Date, processing: Processing, weekdays_only: bool) -> list[TariffLine]:
    """Return the lines that hold on ``day``, those announced for later, and those that hold at certain hours."""
    today, later, hourly = None, [], []
    for price in sorted(conditional, key=lambda p: str(getattr(p.constraint, "start_date", ""))):
        start = getattr(price.constraint, "start_date", None)
        if getattr(price.constraint, "start_time", None) is not None:
            hourly.append(price)
        elif start is None or start <= day:
            today = price.prices
        else:
            later.append((start, price.prices))
    lines = _lines(today, processing) if today is not None else []
    for start, prices in later:
        lines += _lines(prices, processing, from_date=start.isoformat())
    for price in hourly:
        start_time, end_time = price.constraint.start_time, price.constraint.end_time
        hours = UtcHours(
            start=start_time.replace(tzinfo=None), end=end_time.replace(tzinfo=None), weekdays_only=weekdays_only
        )
        lines += _lines(price.prices, processing, utc_hours=hours)
    return lines


def _lines(prices: Any, processing: Processing, **conditions: Any) -> list[TariffLine]:
    lines = []
    for field, kind in _KINDS.items():
        price = getattr(prices, field, None)
        if price is None:
            continue
        tiers = [(0, getattr(price, "base", price))]
        tiers += [(tier.start, tier.price) for tier in getattr(price, "tiers", ())]
        lines += [
            TariffLine(
                kind=kind, usd_per_mtok=float(usd), processing=processing, above_input_tokens=above, **conditions
            )
            for above, usd in tiers
        ]
    return lines
