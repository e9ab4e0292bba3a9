"""Rows of ``datacenter_serving.jsonl``: closed-loop serving runs, two rows (TTFT and TPOT) per record."""

import re
from typing import Any

from envelope.spec.engine import DEFAULT_ENGINE
from envelope.validation.datasets import inferred_settings
from envelope.validation.rows import MeasuredRow, number, whole

_SPREAD_INFERENCEX_FRAC = 0.2
"""InferenceX draws lengths uniformly from 80–100 % of nominal (random-range-ratio 0.8)."""
_SPREAD_OTHERS_FRAC = 0.2
"""Spread that keeps requests of one nominal length from finishing in step for ever, which real runs do not either."""
_LONG_RUN = 100.0
"""Waves of runs that warm up first, so that the initial burst does not weigh in."""
_NODE_GPUS = 8


def serving_rows(record: dict[str, Any]) -> list[MeasuredRow]:
    """Return the TTFT and TPOT rows of one serving record.

    Raises ``KeyError`` or ``ValueError`` when the record lacks model, system, lengths or concurrency.
    """
    collection = str(record.get("collection") or "unknown")
    common = _setting(record, collection)
    measured = (("ttft", "silicon_ttft_ms", "aic_ttft_ms"), ("tpot", "silicon_tpot_ms", "aic_tpot_ms"))
    rows: list[MeasuredRow] = []
    for quantity, key, peer in measured:
        value = number(record.get(key))
        if value is None or value <= 0:
            continue
        aic = number(record.get(peer))
        peers = {"aiconfigurator": aic / 1e3} if aic is not None and aic > 0 else {}
        rows.append(
            MeasuredRow.model_validate(
                common
                | {"id": f"{record['id']}:{quantity}", "quantity": quantity, "value": value / 1e3, "peers": peers}
            )
        )
    if not rows:
        raise ValueError("neither silicon_ttft_ms nor silicon_tpot_ms is a positive number")
    return rows


def _setting(record: dict[str, Any], collection: str) -> dict[str, Any]:
    concurrency = _concurrency(record)
    isl, osl = number(record["isl"]), number(record["osl"])
    if concurrency is None or isl is None or osl is None:
        raise ValueError("isl, osl or silicon_concurrency is missing")
    inferencex, warmed = collection == "inferencex", collection == "nvidia_gap_analysis"
    tp, dp, ep, count = _parallelism(record)
    batch = number(record.get("batch_size"))
    if concurrency and batch and dp == 1 and not inferencex and batch < concurrency:
        concurrency = batch  # several replicas behind one front end share the load
    setting = {
        "collection": f"datacenter/{collection}",
        "scale": 1e3,
        "unit": "ms",
        "per": "request",
        "device": str(record["system"]),
        "device_count": count,
        "model": str(record["model_path"]),
        "weights": _weights(record),
        "kv": str(record.get("kv_cache_dtype") or record.get("kvcache_quant_mode") or "") or None,
        "engine": str(record.get("backend") or DEFAULT_ENGINE),
        "engine_version": str(record.get("backend_version") or ""),
        "tp": tp,
        "pp": whole(record.get("pp_size")) or 1,
        "ep": ep,
        "dp": dp,
        "input_tokens": isl,
        "output_tokens": osl,
        "length_spread_frac": _SPREAD_OTHERS_FRAC if warmed else _SPREAD_INFERENCEX_FRAC,
        "prompts_per_slot": _LONG_RUN if warmed else 10.0,
        "batch": concurrency,
        "load": "closed_loop",
        "max_num_seqs": round(concurrency) if inferencex else None,
        "source": str(record.get("silicon_data_source") or record.get("source") or ""),
        "date": _date(str(record.get("silicon_data_source") or "")),
    }
    return setting | inferred_settings(setting)


def _concurrency(record: dict[str, Any]) -> float | None:
    match = re.search(r"silicon_concurrency=(\d+)", str(record.get("silicon_data_source") or ""))
    stated = number(record.get("silicon_concurrency")) or (float(match[1]) if match else None)
    return stated or number(record.get("batch_size"))


def _parallelism(record: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return tensor, data and expert parallelism of attention and experts, and the number of devices.

    InferenceX states the number of GPUs and the expert ranks; part of its collection multiplied the two into
    ``tp_size`` (8 GPUs with 8 expert ranks read 64), and with data-parallel attention squared them. The
    number of GPUs is then ``moe_tp_size``, or ``tp_size`` where it equals ``attention_dp_size``. Rack-scale rows
    (more than 8 GPUs, one expert rank) serve with one attention rank and one expert rank per GPU.
    """
    tp, dp = whole(record.get("tp_size")) or 1, whole(record.get("attention_dp_size")) or 1
    moe_tp, moe_ep = whole(record.get("moe_tp_size")) or 1, whole(record.get("moe_ep_size")) or 1
    if record.get("collection") == "inferencex":
        if moe_tp > 1 and moe_ep > 1 and tp * dp == moe_tp * moe_ep:
            return (moe_tp, 1, moe_ep, moe_tp) if dp == 1 else (1, moe_tp, moe_ep, moe_tp)
        if dp > 1 and tp == dp and moe_ep == tp * dp:
            return 1, dp, dp, dp
        if tp > _NODE_GPUS and moe_ep == 1:
            return 1, tp, tp, tp
    if record.get("attention_dp_size") is None and moe_tp * moe_ep > tp:
        dp = moe_tp * moe_ep // tp
    return tp, dp, moe_ep if tp * dp % moe_ep == 0 else 1, tp * dp


def _weights(record: dict[str, Any]) -> str | None:
    gemm = str(record.get("gemm_quant_mode") or "")
    moe = str(record.get("moe_quant_mode") or "")
    precision = str(record.get("precision") or "")
    known = [text for text in (moe, gemm, precision) if text and text.lower() not in {"none", "nan"}]
    return known[0] if known else None


def _date(text: str) -> str:
    match = re.search(r"measured=(20\d\d-\d\d-\d\d)", text) or re.search(r"(20\d\d-\d\d-\d\d)", text)
    return match[1] if match else ""
