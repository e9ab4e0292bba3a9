"""Rows of ``published.jsonl``: tables of engines, vendors, leaderboards and testers."""

import re
from typing import Any

from envelope.validation.datasets import inferred_settings
from envelope.validation.rows import Load, MeasuredRow, Quantity, Statistic, number, whole

_LOADS: dict[str, Load] = {
    "single_stream": "single",
    "static_batch": "batch",
    "closed_loop": "closed_loop",
    "closed_loop_steady": "steady",
    "offline_saturated": "saturated",
    "server_slo": "slo",
    "interactive_slo": "slo",
    "saturated_phase": "phase",
    "production": "production",
}


def published_row(record: dict[str, Any]) -> MeasuredRow:
    """Return one published measurement in SI.

    Raises ``ValueError`` or ``KeyError`` when a field that every row needs is missing or a kind is unknown.
    """
    kind, unit, notes = str(record["kind"]), str(record.get("unit") or ""), str(record.get("notes") or "")
    value = number(record["value"])
    if value is None or value <= 0:
        raise ValueError(f"value {record['value']!r} is not a positive number")
    load, rate = _load(str(record.get("load") or ""), record)
    load = "saturated" if kind == "concurrency_capacity" and load == "single" else load
    group = str(record.get("group") or "other")
    scale = _scale(unit)
    setting = _setting(record, group, notes)
    known = inferred_settings(setting | {"collection": f"published/{group}"})
    return MeasuredRow(
        id=str(record.get("id", "")),
        collection=f"published/{group}",
        quantity=_quantity(kind, unit, load, group),
        value=value / scale,
        scale=scale,
        unit=unit,
        statistic=_statistic(unit),
        per=_per(record, unit),
        counts_input="in+out" in unit,
        load=load,
        rate_per_s=rate,
        prompts_per_slot=_prompts_per_slot(record),
        in_process=group in {"trtllm", "laptop"},
        dataset=_dataset(record, group),
        **_limits(str(record.get("load") or ""), kind, load, f"{unit}; {notes}"),
        notes=notes,
        source=f"{record.get('source_title') or ''} ({record.get('source_ref') or 'no reference'})",
        date=str(record.get("date") or ""),
        **(setting | known),
    )


def _setting(record: dict[str, Any], group: str, notes: str) -> dict[str, Any]:
    """Return what ran on what: device, model, formats, engine, parallelism, lengths, limits."""
    draft_tokens, acceptance = _draft(notes)
    return _parallelism(record) | {
        "device": str(record.get("device") or record.get("device_norm") or ""),
        "device_count": whole(record.get("device_count")) or 1,
        "model": str(record.get("model") or record.get("model_norm") or ""),
        "weights": _text(record.get("weights_dtype")) or _text(record.get("quant_format")),
        "kv": _text(record.get("kv_dtype")),
        "engine": _text(record.get("engine")) or _default_engine(group),
        "engine_version": str(record.get("engine_version") or ""),
        "input_tokens": number(record.get("input_len")),
        "output_tokens": number(record.get("output_len")),
        "depth_tokens": number(record.get("context_depth")) or 0.0,
        "batch": number(record.get("concurrency_or_batch")),
        "max_num_seqs": _noted(r"max_num_seqs (\d+)", notes),
        "draft_tokens": draft_tokens,
        "draft_acceptance_frac": acceptance,
        "threads": whole(record.get("threads")) or _noted(r"(\d+) threads", notes),
    }


def _text(value: Any) -> str | None:
    text = str(value).strip() if value is not None else ""
    return text if text and text.lower() not in {"none", "nan", "n/a"} else None


def _parallelism(record: dict[str, Any]) -> dict[str, int | None]:
    return {key: whole(record.get(key)) for key in ("tp", "pp", "ep", "dp")}


def _load(text: str, record: dict[str, Any]) -> tuple[Load, float | None]:
    if text in _LOADS:
        return _LOADS[text], None
    match = re.match(r"open_loop_(?:qps_)?([\d.]+|inf)", text)
    if match:
        return ("open_loop", float("1e4")) if match[1] == "inf" else ("open_loop", float(match[1]))
    if text.startswith("interactivity"):
        return "phase", None
    batch = number(record.get("concurrency_or_batch"))
    if "offline" in text or "satur" in text:
        return "saturated", None
    if "slo" in text or "server" in text:
        return "slo", None
    return ("single", None) if batch is None or batch <= 1 else ("closed_loop", None)


def _scale(unit: str) -> float:
    if unit.startswith("ms"):
        return 1e3
    if "provisioned utility MW" in unit:
        return 1e6
    return 1.0


def _quantity(kind: str, unit: str, load: Load, group: str) -> Quantity:
    """Return what was measured; the same word means different physics under different load."""
    if kind == "ttft":
        return "ttft_unloaded" if load == "single" else "ttft"
    if kind == "power":
        return "power_wall" if "wall" in unit else "power_gpu"
    if kind == "serving_throughput" and re.match(r"req", unit):
        return "request_throughput"
    if kind == "serving_throughput":
        return "saturated_throughput" if load in {"saturated", "slo"} else "serving_throughput"
    known: dict[str, Quantity] = {
        "decode_rate": "decode_rate",
        "prefill_rate": "prefill_rate",
        "itl": "itl",
        "tpot": "tpot",
        "e2e": "e2e",
        "request_latency": "request_latency",
        "per_user_rate": "per_user_rate",
        "energy_per_token": "energy_per_token",
        "power_efficiency": "power_efficiency",
        "request_throughput": "request_throughput",
        "concurrency_capacity": "concurrency_capacity",
    }
    if kind not in known:
        raise ValueError(f"unknown kind {kind!r}")
    return known[kind]


def _statistic(unit: str) -> Statistic:
    for word, statistic in (("median", "median"), ("p99", "p99"), ("90p", "p90"), ("p90", "p90"), ("peak", "peak")):
        if word in unit:
            return statistic  # type: ignore[return-value]
    return "mean"


def _per(record: dict[str, Any], unit: str) -> Any:
    if "per node" in unit:
        return "node"
    if "/GPU" in unit:
        return "gpu"
    if "MW" in unit:
        return "watt"
    per = str(record.get("per") or "system")
    return per if per in {"system", "gpu", "node", "request"} else "system"


def _default_engine(group: str) -> str:
    return {"cpu": "llama.cpp", "local": "llama.cpp", "laptop": "openvino", "trtllm": "tensorrt-llm"}.get(
        group, "vllm" if group != "mlperf" else "tensorrt-llm"
    )


_LIMIT = r"[^\d;]{0,24}?(?:<=?|≤|under|within|below|limit|of)[^\d;]{0,12}([\d.]+)\s*(ms|s)\b"


def _limits(load_text: str, kind: str, load: Load, text: str) -> dict[str, float]:
    """Return the latency limits that a row's load or notes state.

    Interactivity (tokens/s that each user sees) is a limit of the time per token. Notes speak of limits only where the
    load has some.
    """
    found: dict[str, float] = {}
    seen = re.search(r"interactivity_([\d.]+)\s*tok", load_text)
    if load == "slo" or kind == "concurrency_capacity":
        for key, name in (("ttft_limit_s", "TTFT|first token"), ("tpot_limit_s", "TPOT|ITL|inter-token latency")):
            match = re.search(f"(?:{name}){_LIMIT}", text, re.IGNORECASE)
            if match:
                found[key] = float(match[1]) / (1e3 if match[2] == "ms" else 1.0)
        seen = seen or re.search(r"([\d.]+)\s*tok(?:ens)?/s(?:/| per )user", text)
    if seen:
        found["tpot_limit_s"] = 1.0 / float(seen[1])
    return found


def _noted(pattern: str, notes: str) -> int | None:
    match = re.search(pattern, notes)
    return int(match[1]) if match else None


def _draft(notes: str) -> tuple[int, float]:
    """Return draft tokens and acceptance where the notes say that speculative decoding was on."""
    if re.search(r"\bno MTP\b|without MTP", notes):
        return 0, 0.0
    assumed = re.search(r"MTP \((\d+)\s*% acceptance", notes)
    if assumed:
        return 1, int(assumed[1]) / 100
    depth = re.search(r"MTP K=(\d+)", notes)
    return (int(depth[1]), 0.7) if depth else (0, 0.0)


def _prompts_per_slot(record: dict[str, Any]) -> float:
    match = re.search(r"(\d+) prompts", str(record.get("notes") or ""))
    batch = number(record.get("concurrency_or_batch"))
    return int(match[1]) / batch if match and batch else 10.0


def _dataset(record: dict[str, Any], group: str) -> str | None:
    """Return the key of the request statistics for rows that name a data set but no lengths."""
    title, notes = str(record.get("source_title") or ""), str(record.get("notes") or "")
    load, model = str(record.get("load") or ""), str(record.get("model") or "").lower()
    if group == "mlperf":
        base = next((m for m in _MLPERF if m in model), None)
        if base is None:
            return None
        return f"mlperf-{base}-interactive" if "interactive" in load else f"mlperf-{base}"
    if group == "mlenergy":
        match = re.search(r"\(([a-z0-9-]+)\)", title)
        return f"mlenergy-{match[1]}" if match else None
    if "Ollama" in str(record.get("engine") or ""):
        return "ollama-short-prompt"
    if "ShareGPT" in notes:
        return "sharegpt"
    if "OpenVINO Model Server" in str(record.get("engine") or ""):
        return "openvino-model-server"
    return None


_MLPERF = ("llama2-70b", "llama3.1-405b", "llama3.1-8b", "mixtral-8x7b", "deepseek-r1", "gpt-oss-120b")
