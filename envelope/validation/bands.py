"""Error bands as data: errors by quantity, device class and architecture, written for verdicts to show."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from envelope.provenance import Evidence, Source
from envelope.spec.error_band import BandQuantity, ErrorBand
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load_all
from envelope.spec.yaml_text import yaml_text
from envelope.validation.score import ScoredRow

QUANTITIES: dict[str, BandQuantity] = {
    "decode_rate": "decode",
    "itl": "decode",
    "tpot": "decode",
    "per_user_rate": "decode",
    "prefill_rate": "prefill",
    "ttft_unloaded": "prefill",
    "ttft": "ttft",
    "e2e": "e2e",
    "request_latency": "e2e",
    "saturated_throughput": "throughput",
    "serving_throughput": "throughput",
    "request_throughput": "throughput",
    "power_gpu": "power",
    "power_wall": "power",
    "energy_per_token": "energy",
    "weights": "weights",
    "kv_memory": "kv_memory",
    "kv_tokens": "concurrency",
    "max_concurrency": "concurrency",
}
"""Measured quantity → quantity of the band that it counts towards."""

LEAST_ROWS = 8
"""Rows below which a class gets no band of its own."""


def error_bands(rows: Iterable[ScoredRow], date: str) -> list[ErrorBand]:
    """Return a band for each class with enough rows, and for each wider class that holds it.

    Rows of overloaded runs and rows without a prediction are left out.
    """
    groups: dict[tuple[BandQuantity, str, str], list[ScoredRow]] = {}
    for row in rows:
        quantity = QUANTITIES.get(row.quantity)
        if quantity is None or row.ape_frac is None or row.overloaded:
            continue
        for device_class, architecture in _classes(row):
            groups.setdefault((quantity, device_class, architecture), []).append(row)
    return [_band(*key, members, date) for key, members in sorted(groups.items()) if len(members) >= LEAST_ROWS]


def _classes(row: ScoredRow) -> Iterator[tuple[str, str]]:
    yield row.device_class, row.architecture
    yield row.device_class, "any"
    yield "any", row.architecture
    yield "any", "any"


def _band(quantity: BandQuantity, device_class: str, architecture: str, rows: list[ScoredRow], date: str) -> ErrorBand:
    errors = np.array([r.ape_frac for r in rows])
    signed = np.array([r.bias_frac for r in rows])
    families = sorted({r.collection for r in rows})
    source = Source(
        source=f"envelope validate on {len(rows)} measured rows: {', '.join(families)}",
        date=date,
        evidence=Evidence.MEASURED,
    )
    return ErrorBand.model_validate(
        {
            "id": f"{quantity}-{device_class}-{architecture}".replace("_", "-"),
            "quantity": quantity,
            "device_class": device_class,
            "architecture": architecture,
            "n": len(rows),
            "median_ape_frac": round(float(np.median(errors)), 4),
            "p90_ape_frac": round(float(np.percentile(errors, 90)), 4),
            "worst_ape_frac": round(float(errors.max()), 4),
            "scored": _range(rows),
            "bias_frac": round(float(np.median(signed)), 4),
            "sources": {"default": source},
        }
    )


def _range(rows: list[ScoredRow]) -> dict[str, object]:
    """Return the settings that the rows had."""
    batches = [r.batch_per_device for r in rows if r.batch_per_device is not None]
    inputs = [r.input_tokens for r in rows if r.input_tokens is not None]
    devices = {r.hardware_id for r in rows if r.hardware_id}
    profiles = [p for p in load_all(HardwareProfile, "hardware_profiles") if p.id in devices]
    return {
        "formats": sorted({r.weights for r in rows if r.weights}),
        "architectures": sorted({p.architecture for p in profiles}),
        "max_batch_per_device": max(batches, default=None),
        "max_input_tokens": max(inputs, default=None),
    }


def write_error_bands(rows: Iterable[ScoredRow], folder: Path, date: str) -> list[Path]:
    """Write one YAML file per band into ``folder`` (the catalog's ``error_bands``), old ones removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    written: list[Path] = []
    for band in error_bands(rows, date):
        path = folder / f"{band.id}.yaml"
        text = yaml_text(band.model_dump(mode="json"), width=118)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
