"""``envelope models | hardware | servers | hosted | licences | formats | engines | scenarios | schema``."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode, unknown_name
from envelope.report import text


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Declare the arguments of a listing command."""
    if command == "schema":
        parser.add_argument("kind", help=f"one of: {', '.join(SCHEMAS)}")
        return
    parser.add_argument("name", nargs="?", help="show this one whole, with the source of each number")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, command: str) -> int:
    """Print a listing, one record, or a schema."""
    if command == "schema":
        return _schema(options.kind)
    if command == "scenarios":
        return _scenarios(options)
    cls, kind, columns = _kind(command)
    from envelope.spec import load

    if options.name:
        record = load.load(cls, kind, options.name, file="command line", path="name")
        data = record.model_dump(mode="json", exclude_defaults=True)
        if options.json:
            write_json(data)
        else:
            _show(data)
        return ExitCode.OK
    records = load.load_all(cls, kind)
    if options.json:
        write_json([r.model_dump(mode="json", exclude_defaults=True) for r in records])
        return ExitCode.OK
    rows = [[str(cell(r)) for cell in columns.values()] for r in records]
    print_table(list(columns), rows, title=f"{len(rows)} {command}")
    hint = records[0].id if records else "ID"  # type: ignore[attr-defined]
    print(f"envelope {command} {hint} shows one with its sources.", file=sys.stderr)
    return ExitCode.OK


def _show(data: dict[str, Any]) -> None:
    from envelope.spec.yaml_text import yaml_text

    # What the record says comes first, where it comes from last.
    ordered = {name: value for name, value in data.items() if name != "sources"} | {"sources": data["sources"]}
    print(yaml_text(ordered), end="")


Column = Callable[[Any], object]


def _kind(command: str) -> tuple[type[BaseModel], str, dict[str, Column]]:
    """Return the record class, the folder and the table's columns of a listing command."""
    return _KINDS[command]()


def _models() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.model import Model

    return Model, "models", {
        "id": lambda m: m.id,
        "parameters": lambda m: text.si(m.params_total, digits=4),
        "active": lambda m: text.si(m.params_active, digits=3) if m.params_active else "all",
        "format": lambda m: m.native_format,
        "context": lambda m: text.count(m.max_context_tokens),
        "licence": lambda m: m.licence,
        "released": lambda m: m.release_date,
    }  # fmt: skip


def _hardware() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.hardware import HardwareProfile

    return HardwareProfile, "hardware_profiles", {
        "id": lambda h: h.id,
        "class": lambda h: h.device_class.replace("_", " "),
        "memory": lambda h: text.gb(h.device_memory.capacity_bytes),
        "bandwidth": lambda h: text.si(h.device_memory.bandwidth_bytes_per_s, "B/s"),
        "bf16 peak": lambda h: text.si(h.peak_flop_per_s.get("bf16") or h.peak_flop_per_s.get("fp16"), "FLOP/s"),
        "power": lambda h: f"{h.power.max_w:,.0f} W",
        "price": lambda h: text.money(h.price.usd) if h.price else "–",
        "efficiency": lambda h: h.efficiency[0].evidence if h.efficiency else "inherited",
    }  # fmt: skip


def _servers() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.hardware import ServerProfile

    return ServerProfile, "servers", {
        "id": lambda s: s.id,
        "devices": lambda s: f"{s.device_count} × {s.device}",
        "power": lambda s: f"{s.power_max_w:,.0f} W",
        "rack units": lambda s: text.count(s.rack_units),
        "price": lambda s: text.money(s.price.usd) if s.price else "–",
    }  # fmt: skip


def _hosted() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from datetime import date

    from envelope.spec.hosted import HostedModel
    from envelope.units import MTOK

    today = date.today()
    return HostedModel, "hosted", {
        "id": lambda h: h.id,
        "provider": lambda h: h.provider,
        "context": lambda h: text.count(h.context_tokens),
        "input /M": lambda h: text.money(h.usd_per_token("input", day=today) * MTOK),
        "cached /M": lambda h: text.money(h.usd_per_token("cached_input", day=today) * MTOK),
        "output /M": lambda h: text.money(h.usd_per_token("output", day=today) * MTOK),
        "priced": lambda h: h.sources["default"].date,
    }  # fmt: skip


def _cloud() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.cloud import CloudPrices, Mode

    def hourly(prices: CloudPrices, mode: Mode) -> str:
        found = prices.price(mode)
        return text.money(found.point) if found else "–"

    return CloudPrices, "cloud", {
        "id": lambda c: c.id,
        "quotes": lambda c: str(len(c.quotes)),
        "on demand /h": lambda c: hourly(c, "on_demand"),
        "1 year /h": lambda c: hourly(c, "reserved_1y"),
        "3 years /h": lambda c: hourly(c, "reserved_3y"),
        "spot /h": lambda c: hourly(c, "spot"),
    }  # fmt: skip


def _licences() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.licence import Licence

    return Licence, "licences", {
        "id": lambda x: x.id,
        "name": lambda x: x.name,
        "commercial": lambda x: "yes" if x.commercial_use else "no",
        "monthly users": lambda x: text.count(x.user_cap) if x.user_cap else "no cap",
    }  # fmt: skip


def _formats() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.number_format import NumberFormat

    return NumberFormat, "formats", {
        "id": lambda f: f.id,
        "family": lambda f: f.family,
        "bits/weight": lambda f: f"{f.bits_per_weight:g}",
        "computes in": lambda f: f.compute,
        "weights": lambda f: "yes" if f.weights else "",
        "KV cache": lambda f: "yes" if f.kv else "",
        "stays wide": lambda f: ", ".join(f.wide_parts),
    }  # fmt: skip


def _engines() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.engine import Engine

    return Engine, "engines", {
        "id": lambda e: e.id,
        "batching": lambda e: e.batching,
        "step overhead": lambda e: text.seconds(e.step_overhead_s),
        "memory share": lambda e: text.percent(e.rules(None).frac),
        "prefix cache": lambda e: "yes" if e.prefix_cache else "no",
    }  # fmt: skip


def _presets() -> tuple[type[BaseModel], str, dict[str, Column]]:
    from envelope.spec.workload import WorkloadPreset

    return WorkloadPreset, "workloads", {
        "id": lambda p: p.id,
        "name": lambda p: p.name,
        "sessions": lambda p: "yes" if p.task.session else "no",
        "day and week": lambda p: "yes" if p.arrivals and p.arrivals.curve else "no",
        "source": lambda p: p.sources["default"].source,
    }  # fmt: skip


_KINDS: dict[str, Callable[[], tuple[type[BaseModel], str, dict[str, Column]]]] = {
    "models": _models, "hardware": _hardware, "servers": _servers, "hosted": _hosted, "cloud": _cloud,
    "licences": _licences, "formats": _formats, "engines": _engines, "presets": _presets,
}  # fmt: skip


def _scenarios(options: argparse.Namespace) -> int:
    from envelope.plan.case.scenarios import find_scenario, list_scenarios

    if options.name:
        path = find_scenario(options.name)
        print(path.read_text(encoding="utf-8"), end="")
        return ExitCode.OK
    found = list_scenarios()
    if options.json:
        write_json([{"id": s.id, "name": s.name, "question": s.question, "file": str(p)} for s, p in found])
        return ExitCode.OK
    rows = [[s.id, str(len(s.candidates)), s.failure_not_affordable.replace("_", " "), s.question] for s, _ in found]
    print_table(["id", "candidates", "must not happen", "question"], rows, title=f"{len(rows)} scenarios")
    print(f"envelope compare {found[0][0].id} runs one." if found else "", file=sys.stderr)
    return ExitCode.OK


SCHEMAS = {
    "scenario": ("envelope.spec.scenario", "Scenario"),
    "sweep": ("envelope.plan.sweep.study", "Study"),
    "workload": ("envelope.spec.workload", "Workload"),
    "model": ("envelope.spec.model", "Model"),
    "hardware": ("envelope.spec.hardware", "HardwareProfile"),
    "server": ("envelope.spec.hardware", "ServerProfile"),
    "hosted": ("envelope.spec.hosted", "HostedModel"),
    "licence": ("envelope.spec.licence", "Licence"),
    "format": ("envelope.spec.number_format", "NumberFormat"),
    "engine": ("envelope.spec.engine", "Engine"),
    "economics": ("envelope.spec.economics", "Economics"),
}


def _schema(kind: str) -> int:
    from importlib import import_module

    if kind not in SCHEMAS:
        raise unknown_name("command line", "kind", kind, SCHEMAS, "schema --help")
    module, name = SCHEMAS[kind]
    cls: type[BaseModel] = getattr(import_module(module), name)
    print(json.dumps(cls.model_json_schema(), indent=2, ensure_ascii=False))
    return ExitCode.OK
