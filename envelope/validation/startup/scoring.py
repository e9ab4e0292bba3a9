"""Scores of the memory model on start-up logs, by quantity, engine and kind of model."""

from collections.abc import Iterator

from envelope.errors import InputError
from envelope.perf.checks import blocking_reasons
from envelope.perf.kv import cache_kind
from envelope.perf.memory import MemoryFit, fit
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.spec.deployment import EngineSettings, Parallelism
from envelope.spec.engine import Engine
from envelope.spec.load import load
from envelope.units import GIB
from envelope.validation.names import find_engine, usual_version, version_number, version_of_thread
from envelope.validation.score import ScoredRow, ape
from envelope.validation.startup.log import StartupLog


def replica_of(row: StartupLog) -> ReplicaSpec:
    """Return the replica that a log started. Raises ``InputError`` for names that the catalog lacks."""
    version = row.engine_version or version_of_thread(row.url)
    number = version_number(version or usual_version(row.engine))
    engine = find_engine(row.engine, number or "") or load(Engine, "engines", row.engine, file=row.url, path="engine")
    settings = EngineSettings(
        engine_version=number,
        memory_frac=row.memory_frac,
        max_context_tokens=row.max_context_tokens,
        max_num_seqs=row.max_num_seqs,
        max_num_batched_tokens=row.max_num_batched_tokens,
        draft_tokens=row.draft_tokens,
        text_only=row.text_only,
    )
    parallelism = Parallelism(tp=row.tp, pp=row.pp, dp=row.dp, ep=row.ep, dcp=row.dcp)
    if engine.splits_by == "layers" and parallelism.tp > 1:
        parallelism = Parallelism(pp=parallelism.tp)
    return resolve(
        model=row.model, hardware=row.hardware, engine=engine, weights=row.weights, kv=row.kv or "bf16",
        parallelism=parallelism, settings=settings, file=row.url,
    )  # fmt: skip


def score_log(row: StartupLog, number: int) -> list[ScoredRow]:
    """Return the scored quantities of one log; one row with the reason where it cannot be predicted."""
    ident = f"startup-{number}"
    if row.skip:
        return []
    try:
        replica = replica_of(row)
    except InputError as error:
        return [_rejected(row, ident, str(error.problems[0]))]
    found = fit(replica)
    rows = [_scored(row, ident, replica, *figures) for figures in _figures(row, replica, found)]
    if row.gives("fits") and row.fits is not None:
        rows.append(_verdict(row, ident, replica, starts(replica, found)))
    return rows


def starts(replica: ReplicaSpec, found: MemoryFit) -> bool:
    """Return whether the engine starts: weights, working set, one sequence of its longest context, and the layout."""
    return found.fits and not blocking_reasons(replica, found, 1)


def _figures(row: StartupLog, replica: ReplicaSpec, found: MemoryFit) -> Iterator[tuple[str, float, float]]:
    """Yield quantity, measured and predicted value of everything that the log gives."""
    device = found.domains[0]
    if row.gives("weights_gib"):
        yield "weights", row.weights_gib or 0.0, device.weights_bytes / GIB
    if row.gives("kv_gib"):
        yield "kv_memory", row.kv_gib or 0.0, device.kv_bytes / GIB
    if row.gives("kv_tokens"):
        yield "kv_tokens", row.kv_tokens or 0.0, found.printed_tokens
    if row.gives("max_concurrency"):
        yield "max_concurrency", row.max_concurrency or 0.0, found.admitted_concurrency(replica.longest_tokens)
    yield from _sequence(row, replica, found)


def _sequence(row: StartupLog, replica: ReplicaSpec, found: MemoryFit) -> Iterator[tuple[str, float, float]]:
    """Yield what one sequence takes, in GiB or bytes a token."""
    plan = found.plan
    if row.gives("needed_gib") and row.needed_tokens:
        yield "kv_per_sequence", row.needed_gib or 0.0, plan.admitted_bytes(row.needed_tokens) / GIB
    if row.gives("needed_gib_for_30000"):
        yield "kv_per_sequence", row.needed_gib_for_30000 or 0.0, plan.admitted_bytes(30_000) / GIB
    if row.gives("max_len_tokens") and row.kv_gib:
        yield "kv_per_sequence", row.kv_gib, plan.admitted_bytes(row.max_len_tokens or 0) / GIB
    if row.gives("kv_bytes_per_token"):
        yield "kv_per_sequence", row.kv_bytes_per_token or 0.0, found.kv_bytes_per_token
    if row.gives("kv_seq_mib"):
        yield "kv_per_sequence", (row.kv_seq_mib or 0.0) / 1024, plan.context_bytes(replica.longest_tokens) / GIB


def _common(row: StartupLog, ident: str) -> dict[str, object]:
    devices = row.tp * row.pp * row.dp
    return {
        "id": ident, "record": ident, "collection": f"startup/{row.engine.split('-')[0]}", "model": row.model,
        "device": row.hardware if devices == 1 else f"{devices}x {row.hardware}", "engine": row.engine,
    }  # fmt: skip


def _scored(
    row: StartupLog, ident: str, replica: ReplicaSpec, quantity: str, measured: float, predicted: float
) -> ScoredRow:
    units = {"kv_tokens": "tokens", "max_concurrency": "sequences"}
    return ScoredRow.model_validate(
        {
            **_common(row, ident), "id": f"{ident}:{quantity}", "quantity": quantity,
            "unit": units.get(quantity, "GiB"),
            "device_class": replica.hardware.device_class, "architecture": cache_kind(replica.model),
            "measured": measured, "predicted": predicted, "ape_frac": ape(predicted, measured),
            "bias_frac": predicted / measured - 1.0, "hardware_id": replica.hardware.id, "model_id": replica.model.id,
            "weights": replica.weights.id if replica.weights else replica.model.native_format,
        }
    )  # fmt: skip


def _verdict(row: StartupLog, ident: str, replica: ReplicaSpec, predicted: bool) -> ScoredRow:
    """Return the verdict *starts* as 1 or 0; its error is 0 where it is right, else 1."""
    wrong = float(predicted != row.fits)
    return ScoredRow.model_validate(
        {
            **_common(row, ident), "id": f"{ident}:fits", "quantity": "fits", "unit": "starts",
            "device_class": replica.hardware.device_class, "architecture": cache_kind(replica.model),
            "measured": float(bool(row.fits)), "predicted": float(predicted), "ape_frac": wrong,
            "bias_frac": float(predicted) - float(bool(row.fits)), "hardware_id": replica.hardware.id,
            "model_id": replica.model.id,
        }
    )  # fmt: skip


def _rejected(row: StartupLog, ident: str, reason: str) -> ScoredRow:
    return ScoredRow.model_validate(
        {
            **_common(row, ident), "quantity": "unknown", "device_class": "unknown", "architecture": "unknown",
            "unit": "", "measured": None, "predicted": None, "ape_frac": None, "bias_frac": None, "reason": reason,
        }
    )  # fmt: skip
