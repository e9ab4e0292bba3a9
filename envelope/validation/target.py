"""The deployment that a measured row ran on: foreign names and half-stated settings → a resolved replica."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from envelope.errors import InputError
from envelope.perf.memory import MemoryFit, fit
from envelope.perf.replica import ReplicaSpec, all_formats
from envelope.perf.step import compile_step
from envelope.perf.work import weight_bytes
from envelope.spec.deployment import MOST, EngineSettings, Parallelism
from envelope.spec.editions import in_edition
from envelope.spec.engine import DEFAULT_ENGINE, Engine
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat
from envelope.spec.step import StepTables
from envelope.validation.model_names import FoundModel, find_model
from envelope.validation.names import (
    Device,
    find_device,
    find_engine,
    find_format,
    rules,
    usual_version,
    version_number,
)  # fmt: skip
from envelope.validation.rows import MeasuredRow

_MLPERF_TP = (1, 2, 4, 8)


class UnmappableError(Exception):
    """A row whose device, model or format is unknown, or whose load has no prediction; counts against coverage."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a row ran on, ready to be predicted."""

    replica: ReplicaSpec
    replicas: int
    """Equal replicas that share the row's load."""
    host: str = ""
    """Host computer of a card, where the device's name gives it."""
    assumed: tuple[str, ...] = ()
    """What had to be assumed to map the row."""

    @property
    def architecture(self) -> str:
        """``moe`` or ``dense``."""
        return "moe" if self.replica.model.moe is not None else "dense"

    @property
    def devices(self) -> int:
        """Devices of all replicas."""
        return self.replicas * self.replica.parallelism.devices

    def memory(self) -> MemoryFit:
        """Return the memory fit of one replica."""
        return fit(self.replica)

    def tables(self) -> StepTables:
        """Return the step tables of one replica; each data-parallel rank has a token budget of its own."""
        replica, ranks = self.replica, self.replica.parallelism.dp
        if ranks == 1:
            return compile_step(replica)
        seqs = min(math.ceil(replica.max_num_seqs / ranks), MOST // ranks) * ranks
        tokens = (replica.settings.max_num_batched_tokens or replica.default_limits[1]) * ranks
        wide = {"max_num_seqs": seqs, "max_num_batched_tokens": tokens}
        return compile_step(replace(replica, settings=replica.settings.changed(**wide)))

    def prompt_tables(self) -> StepTables:
        """Return the tables for one prompt alone: an engine that splits by layers runs its devices one by one."""
        replica = self.replica
        if replica.parallelism.pp == 1 or replica.engine.splits_by != "layers":
            return self.tables()
        return compile_step(replace(replica, parallelism=Parallelism()))


def classes_of(row: MeasuredRow) -> tuple[str, str]:
    """Return device class and architecture of a row for the summary; ``unknown`` where a name does not map."""
    device, model = find_device(row.device), find_model(row.model)
    device_class = device.profile.device_class if device else "unknown"
    architecture = "unknown" if model is None else "moe" if model.model.moe is not None else "dense"
    return device_class, architecture


def target_of(row: MeasuredRow) -> Target:
    """Return the deployment of a row; of several possible layouts the first of ``layouts``."""
    return next(layouts(row))


def layouts(row: MeasuredRow) -> Iterator[Target]:
    """Yield the deployments that a row may have run on: one where it states the parallelism, else all plausible.

    Raises ``UnmappableError`` when the device, model or weight format is unknown.
    """
    device, model = _device(row), _model(row)
    engine = _collecting(row, _engine(row, device.profile))
    weights, assumed = _weights(row, model, engine)
    base = ReplicaSpec(
        model=_in_its_edition(row, model.model, weights, device.profile),
        hardware=_with_threads(device.profile, row.threads),
        engine=engine,
        weights=weights,
        kv=_kv(row, engine, weights, model.model),
        formats=all_formats(),
        settings=_settings(row, engine),
    )
    if model.assumed:
        assumed = (*assumed, f"{model.model.id} stands in for {row.model}")
    count = _unit(row, base, row.device_count * device.count)
    for parallelism in _parallelisms(row, base, count):
        replica = _roomy(row, _fitted(_per_rank(row, replace(base, parallelism=parallelism))))
        yield Target(replica, max(count // parallelism.devices, 1), device.host, assumed)


def _device(row: MeasuredRow) -> Device:
    found = find_device(row.device)
    if found is None:
        raise UnmappableError(f"device {row.device!r} is not in the catalog")
    return found


def _model(row: MeasuredRow) -> FoundModel:
    found = find_model(row.model)
    if found is None:
        raise UnmappableError(f"model {row.model!r} is not in the catalog and its name gives no size")
    return found


def _engine(row: MeasuredRow, hardware: HardwareProfile) -> Engine:
    found = find_engine(row.engine, row.engine_version)
    if found is not None:
        return found
    usual = (e for e in load_all(Engine, "engines") if hardware.device_class in e.default_on)
    return next(usual, None) or load(Engine, "engines", DEFAULT_ENGINE, file=row.id, path="engine")


def _collecting(row: MeasuredRow, engine: Engine) -> Engine:
    """Return the engine as it runs where answers are collected whole: offline, no token is sent by itself."""
    return _unstreamed(engine.id) if row.load == "saturated" and engine.stream_overhead_s > 0 else engine


@cache
def _unstreamed(engine_id: str) -> Engine:
    engine = load(Engine, "engines", engine_id, file="validation", path="engine")
    left = engine.sequence_overhead_s - engine.stream_overhead_s
    return engine.changed(sequence_overhead_s=left, stream_overhead_s=0.0)


def _format(name: str) -> NumberFormat:
    return load(NumberFormat, "formats", name, file="validation", path="format")


def _weights(row: MeasuredRow, found: FoundModel, engine: Engine) -> tuple[NumberFormat | None, tuple[str, ...]]:
    """Return the weight format, ``None`` for the checkpoint's own mixture of formats."""
    texts = [row.weights, found.weights]
    if engine.own_checkpoints:
        texts.reverse()  # a GGUF name says more than the class of its format
    known = next((f for text in texts if text and (f := find_format(text)) is not None), None)
    if known is None:
        stated = next((text for text in texts if text), None)
        return None, (f"weights {stated!r} taken as the checkpoint's own",) if stated else ()
    if engine.own_checkpoints and known.id == "mxfp4":
        known = _format("mxfp4_moe")  # a GGUF file keeps the rest in Q8_0, not in BF16
    if known.id == "fp8" and any(re.search(p, row.model, re.IGNORECASE) for p in rules().block_fp8):
        known = _format("fp8-block")
    return _as_shipped(known, found.model), ()


def _as_shipped(known: NumberFormat, model: Model) -> NumberFormat | None:
    """Return ``None`` where a stated format is loose wording for the checkpoint's own, else the format.

    Tables say *fp8* of checkpoints in block-scaled FP8 and *fp4* of those in MXFP4. NVIDIA's NVFP4 versions of
    mixtures that ship narrow keep attention wide.
    """
    if known.family in {"gguf", "onnx"}:
        return known
    shipped = _format(model.native_format)
    if known.family == shipped.family and abs(known.bits_per_weight - shipped.bits_per_weight) < 0.6:
        return None
    if known.id == "nvfp4" and model.moe is not None and shipped.bits_per_weight < 9:
        return _format("nvfp4-moe")
    return known


def _in_its_edition(row: MeasuredRow, model: Model, weights: NumberFormat | None, hardware: HardwareProfile) -> Model:
    """Return the model in the edition of its checkpoint that the row ran: the one it names, else the vendor's own.

    Vendors of devices publish re-quantised checkpoints, and their tables are made with these.
    """
    rivals = [name for name, edition in model.editions.items() if weights and edition.format == weights.id]
    named = [name for name in rivals if name.lower() == row.model.lower()]
    own = [name for name in rivals if name.lower().startswith(f"{hardware.vendor.lower()}/")]
    chosen = named or own if len(rivals) > 1 else []
    return in_edition(model, chosen[0]) if chosen else model


def _kv(row: MeasuredRow, engine: Engine, weights: NumberFormat | None, model: Model) -> NumberFormat:
    """Return the KV format: as stated, else FP8 where the checkpoint or engine brings it, else 16 bit.

    NVIDIA's FP8 and NVFP4 checkpoints carry FP8 KV scales that vLLM, SGLang and TensorRT-LLM then use; some engines
    also take a narrow cache for any model that ships narrow (``Engine.kv_of_narrow``).
    """
    stated = find_format(row.kv) if row.kv else None
    if stated is not None and stated.kv:
        return stated
    requantised = weights is not None and weights.compute in {"fp8", "nvfp4"}
    narrow = requantised or (weights is None and _format(model.native_format).bits_per_weight < 9)
    if engine.kv_of_narrow is not None and narrow:
        return _format(engine.kv_of_narrow)
    if row.collection.startswith("datacenter") and requantised and not row.kv:
        return _format("fp8")
    return _format("bf16")


def _settings(row: MeasuredRow, engine: Engine) -> EngineSettings:
    batch = math.ceil(row.batch) if row.batch else 1
    seqs = row.max_num_seqs or max(batch, engine.default_max_num_seqs)
    tokens = row.max_num_batched_tokens
    if tokens is None and "ubatch 2048" in row.notes:
        tokens = 2048
    return EngineSettings(
        engine_version=version_number(row.engine_version) or usual_version(engine.id),
        max_num_seqs=min(max(seqs, batch), 8192),
        max_num_batched_tokens=tokens,
        prefix_cache=row.prefix_cache,
        kv_blocks=row.kv_blocks,
        draft_tokens=row.draft_tokens,
        draft_acceptance_frac=row.draft_acceptance_frac,
        memory_frac=row.memory_frac,
    )


def _with_threads(profile: HardwareProfile, threads: int | None) -> HardwareProfile:
    """Return a CPU with as many cores as threads were used; compute scales, bandwidth does not."""
    if threads is None or profile.device_class not in {"cpu", "edge"} or threads >= (profile.units or 0):
        return profile
    return _narrowed(profile.id, threads)


@cache
def _narrowed(profile_id: str, threads: int) -> HardwareProfile:
    profile = load(HardwareProfile, "hardware_profiles", profile_id, file="validation", path="device")
    share = threads / (profile.units or threads)
    peaks = {key: peak * share for key, peak in profile.peak_flop_per_s.items()}
    return profile.changed(units=threads, peak_flop_per_s=peaks)


def _parallelisms(row: MeasuredRow, base: ReplicaSpec, count: int) -> Iterator[Parallelism]:
    tp, pp, dp, ep = row.tp or 1, row.pp or 1, row.dp or 1, row.ep or 1
    if count == 1:
        yield Parallelism()
        return
    if base.engine.splits_by == "layers":
        yield Parallelism(pp=count)
        return
    if row.tp is None and row.pp is None and row.dp is None and row.ep is None:
        yield from _free(row, base, count)
        return
    if row.load == "replay" and dp > 1 and ep == 1:
        dp = 1  # without expert parallelism the ranks are replicas of their own
    if tp * pp * dp > count and dp > 1:
        tp = max(count // (dp * pp), 1)
    if row.dp in (None, 1) and ep > tp * dp and ep <= count:
        tp = ep  # vLLM's expert parallelism spreads the experts over the tensor-parallel ranks
    while tp * pp * dp > count and tp > 1:
        tp //= 2
    yield Parallelism(tp=tp, pp=pp, dp=dp, ep=ep if (tp * dp) % ep == 0 else 1)


_UNIT_MOST = 8
"""Multiples of the counted devices up to which a production unit is sought."""


def _unit(row: MeasuredRow, base: ReplicaSpec, count: int) -> int:
    """Return the devices that a production fleet serves one copy with, where those counted (a node) hold none."""
    stated = (row.tp, row.pp, row.dp, row.ep) != (None,) * 4
    if row.load != "production" or stated or count == 1 or base.model.moe is None:
        return count
    sizes = [count * 2**i for i in range(_UNIT_MOST.bit_length())]
    spread = (replace(base, parallelism=Parallelism(dp=n, ep=n)) for n in sizes)
    return next((n for n, one in zip(sizes, spread, strict=True) if fit(one).max_concurrency(4096) >= n), count)


def _free(row: MeasuredRow, base: ReplicaSpec, count: int) -> Iterator[Parallelism]:
    """Yield layouts of ``count`` devices for a row that states none, the narrowest that holds the weights first.

    Submitters choose the fastest, so the caller takes the best of these for throughput.
    """
    moe = base.model.moe is not None
    yielded = False
    widths = [w for w in (*_MLPERF_TP, 16, 32, 64, 72) if w <= count and count % w == 0]
    for width in widths or [count]:
        options = [Parallelism(tp=width)]
        if moe and width > 1:
            options.append(Parallelism(dp=width, ep=width))
        for option in options:
            if fit(replace(base, parallelism=option)).max_concurrency(2048) >= 4:
                yielded = True
                yield option
    if not yielded:
        yield Parallelism(tp=min(count, 8)) if count <= 8 else Parallelism(dp=count, ep=count if moe else 1)


def _fitted(replica: ReplicaSpec) -> ReplicaSpec:
    """Return the replica with as many layers in host memory as its engine would put there to make the model fit."""
    if not replica.engine.spills_to_host or replica.host_memory is None:
        return replica
    low, high = 0, replica.model.layers
    if _fits(replica, 0) or _spread_fits(replica):
        return replica
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(replica, middle) else (middle + 1, high)
    return _offloaded(replica, high)


def _per_rank(row: MeasuredRow, replica: ReplicaSpec) -> ReplicaSpec:
    """Return the replica with its sequence limit counted over all data-parallel ranks; rows state it per rank."""
    ranks = replica.parallelism.dp
    if ranks == 1 or row.load != "replay" or row.max_num_seqs is None:
        return replica
    settings = replica.settings.changed(max_num_seqs=min(row.max_num_seqs * ranks, MOST))
    return replace(replica, settings=settings)


_TIGHT_MEMORY_FRAC = 0.97
"""Share of the memory that an engine can be told to take where its default holds too few sequences."""


def _roomy(row: MeasuredRow, replica: ReplicaSpec) -> ReplicaSpec:
    """Return the replica with a larger share of memory if its default cannot hold a quarter of the measured load.

    The run took place, so whoever made it had raised the engine's memory fraction.
    """
    if row.load not in {"closed_loop", "steady"} or row.kv_blocks is not None or not row.batch:
        return replica
    context = (row.input_tokens or 0.0) + (row.output_tokens or 0.0)
    if fit(replica).max_concurrency(context) >= max(row.batch / 4, 1.0):
        return replica
    settings = replica.settings.changed(memory_frac=_TIGHT_MEMORY_FRAC)
    return replace(replica, settings=settings)


def _spread_fits(replica: ReplicaSpec) -> bool:
    """Return whether layers, cut as they best fit, find room on all devices together."""
    parts = weight_bytes(replica.model, replica.weights or "native", replica.formats)
    room = replica.hardware.device_memory.capacity_bytes * replica.parallelism.devices
    return replica.parallelism.pp > 1 and sum(parts.values()) - parts.get("embed", 0.0) < _TIGHT_MEMORY_FRAC * room


def _offloaded(replica: ReplicaSpec, layers: int) -> ReplicaSpec:
    return replace(replica, settings=replica.settings.changed(offload_layers=layers))


def _fits(replica: ReplicaSpec, layers: int) -> bool:
    try:
        return fit(_offloaded(replica, layers)).max_concurrency(512) >= 1
    except (InputError, ZeroDivisionError):
        return False
