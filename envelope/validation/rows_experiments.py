"""Rows of ``vllm_experiments.json``: load tests of vLLM, three rows (TTFT, ITL, E2E) per experiment."""

import re
from pathlib import Path
from typing import Any

from envelope.spec.engine import DEFAULT_ENGINE
from envelope.validation.datasets import load_profiles
from envelope.validation.rows import MeasuredRow, RowSet, Stage, number, whole

_MEANS = {
    "ttft": ("ttft_mean_ms", "ttft_ms", "ttft_mean"),
    "itl": ("itl_mean_ms", "tpot_ms", "itl_mean"),
    "e2e": ("e2e_mean_ms", "e2e_ms", "e2e_mean"),
}
"""Quantity → names of its mean in the flat form, of its table in the nested form, and in peers' predictions."""

_OVERLOAD_TTFT_S = 20.0
"""Mean TTFT of an open-loop run without recorded requests above which it never reached a steady state."""


def experiment_rows(document: dict[str, Any], path: Path) -> RowSet:
    """Return the rows of all experiments; requests recorded beside the file are found by its name."""
    requests = next((p for p in _request_files(path) if p.is_file()), None)
    rows: list[MeasuredRow] = []
    rejected: list[tuple[str, str]] = []
    for record in document["experiments"]:
        try:
            rows += _experiment(record)
        except (KeyError, TypeError, ValueError) as error:
            rejected.append((str(record.get("id", "?")), f"row not understood: {str(error).splitlines()[0]}"))
    return RowSet(rows=tuple(rows), rejected=tuple(rejected), requests_path=str(requests) if requests else None)


def _request_files(path: Path) -> list[Path]:
    stem = path.name.removesuffix(".json").replace("experiments", "requests")
    return [path.with_name(f"{stem}.csv.gz"), path.with_name("vllm_requests.csv.gz")]


def _experiment(record: dict[str, Any]) -> list[MeasuredRow]:
    common = _setting(record)
    summary = _summary(record["measured"])
    values = {quantity: _mean_s(summary, quantity) for quantity in _MEANS}
    if values["itl"] is None or "itl_mean_ms_corrected" in summary:
        corrected = number(summary.get("itl_mean_ms_corrected"))
        values["itl"] = corrected / 1e3 if corrected else values["itl"]
    counted = _counted_tokens(summary, values)
    failed, sent = number(summary.get("failed")) or 0.0, number(summary.get("sent")) or 0.0
    slow = common["trace"] is None and (values["ttft"] or 0.0) > _OVERLOAD_TTFT_S
    common |= {"output_counted_tokens": counted, "overloaded": slow or failed > 0.01 * sent}
    peers = record.get("simulator_predictions") or {}
    rows = [
        MeasuredRow.model_validate(
            common
            | {"id": f"{record['id']}:{quantity}", "quantity": quantity, "value": value, "peers": _peers(peers, names)}
        )
        for (quantity, names), value in zip(_MEANS.items(), values.values(), strict=True)
        if value is not None and value > 0
    ]
    if not rows:
        raise ValueError("measured holds no mean TTFT, ITL or E2E")
    return rows


def _summary(measured: dict[str, Any]) -> dict[str, Any]:
    for key in ("summary", "from_requests_relative_to_queued_ts", "summary_published"):
        if isinstance(measured.get(key), dict):
            return dict(measured[key])
    return measured


def _mean_s(summary: dict[str, Any], quantity: str) -> float | None:
    flat, nested, _ = _MEANS[quantity]
    value = summary.get(flat)
    if value is None and isinstance(summary.get(nested), dict):
        value = summary[nested].get("mean")
        value = value.get("vllm") if isinstance(value, dict) else value
    if isinstance(value, list):
        value = value[0] if value else None
    found = number(value)
    return found / 1e3 if found is not None else None


def _counted_tokens(summary: dict[str, Any], values: dict[str, float | None]) -> float | None:
    """Return the mean number of output tokens that the client counted.

    The client tokenises the answer again, which gives other (often fewer) tokens than the engine made. Where it
    is not stated it follows from the definition of the reported mean, ITL = (E2E − TTFT)/(tokens − 1).
    """
    stated = summary.get("output_len")
    mean = number(stated.get("mean")) if isinstance(stated, dict) else None
    if mean:
        return mean
    ttft, itl, e2e = values["ttft"], values["itl"], values["e2e"]
    return 1 + (e2e - ttft) / itl if ttft and itl and e2e and e2e > ttft else None


def _peers(predictions: dict[str, Any], names: tuple[str, str, str]) -> dict[str, float]:
    found = {peer: number(values.get(f"summary.{names[2]}")) for peer, values in predictions.items()}
    return {peer: value / 1e3 for peer, value in found.items() if value is not None and value > 0}


def _setting(record: dict[str, Any]) -> dict[str, Any]:
    scheduler, workload = record.get("scheduler") or {}, record.get("workload") or {}
    ident = str(record["id"])
    kind = ident.split(":", 1)[0] if ":" in ident else "other"
    tp, dp = whole(record.get("tp")) or 1, whole(record.get("dp")) or 1
    ep = whole(record.get("ep")) or (tp * dp if record.get("expert_parallel") is True else 1)
    count = tp * dp * (whole(record.get("pp")) or 1)
    return _lengths(record, workload) | {
        "collection": f"load_test/{kind}",
        "scale": 1e3,
        "unit": "ms",
        "per": "request",
        "device": str(record["gpu"]),
        "device_count": count,
        "model": str(record["model"]),
        "weights": _dtype(str(record.get("dtype") or "")),
        "engine": str(record.get("engine") or DEFAULT_ENGINE).split()[0],
        "engine_version": " ".join(str(record.get("engine") or "").split()[1:]),
        "tp": tp,
        "pp": whole(record.get("pp")) or 1,
        "ep": ep,
        "dp": dp,
        "load": "replay",
        "trace": ident if kind in {"T", "L"} else None,
        "prefix_cache": "off" not in str(scheduler.get("prefix_cache") or "on"),
        "max_num_seqs": whole(scheduler.get("max_num_seqs")) or _HARNESS_MAX_NUM_SEQS,
        "max_num_batched_tokens": whole(scheduler.get("max_num_batched_tokens")),
        "kv_blocks": whole(scheduler.get("gpu_kv_blocks")),
        "source": str((record.get("source") or {}).get("repo") or ""),
        "date": "2026-02",
    }


_HARNESS_MAX_NUM_SEQS = 128
"""Setting of every run of the inference-sim harness that states one."""


def _lengths(record: dict[str, Any], workload: dict[str, Any]) -> dict[str, Any]:
    profile = load_profiles().get(str(workload.get("profile") or "")) if workload.get("profile") else None
    spec = workload.get("spec") or {}
    if not spec and profile is not None:
        spec = profile.spec
    stages = [Stage(rate_per_s=s["rate"], duration_s=s["duration"]) for s in workload.get("stages") or []]
    if not stages and profile is not None:
        stages = [Stage(rate_per_s=rate, duration_s=duration) for duration, rate in profile.stages]
    stages = stages or _stated_rate(record, workload)
    prompt = (record["measured"].get("summary") or {}).get("prompt_len")
    stated = number(prompt.get("mean")) if isinstance(prompt, dict) else None
    nominal = sum(number(spec.get(key)) or 0.0 for key in ("system_prompt_len", "question_len"))
    isl, osl = workload.get("isl") or {}, workload.get("osl") or {}
    shared = "shared_prefix" in f"{workload.get('tool') or ''} {workload.get('kind') or ''}"
    return {
        "input_tokens": stated or (nominal + _TEMPLATE_TOKENS if nominal else None) or number(isl.get("mean")),
        "output_tokens": number(spec.get("output_len")) or number(osl.get("mean")),
        "stages": tuple(stages),
        "distinct_prompts": 100 if shared else None,
    }


def _stated_rate(record: dict[str, Any], workload: dict[str, Any]) -> list[Stage]:
    """Return one stage at the request rate that the workload's description names, if it does."""
    match = re.search(r"([\d.]+)\s*req/s", str(workload.get("kind") or ""))
    count = number(record.get("num_requests"))
    return [Stage(rate_per_s=float(match[1]), duration_s=count / float(match[1]))] if match and count else []


_TEMPLATE_TOKENS = 25.0
"""Tokens that re-tokenising adds to a prompt of nominal length (recorded runs: 566 → 592, 750 → 786)."""


def _dtype(text: str) -> str | None:
    match = re.search(r"fp8|nvfp4|int4|int8|awq|gptq|mxfp4", text.lower())
    return match[0] if match else "bf16"
