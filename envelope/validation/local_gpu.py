"""``envelope validate --local --device gpu``: a Llama-3.1-8B shape in PyTorch against the GPU profile's prediction.

Nothing is tuned on the runs: the prediction comes from the GPU's probed kernels. PyTorch adds no engine time, since a
step is one CUDA graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from envelope.errors import EnvelopeError
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.provenance import Evidence, Source
from envelope.sensors.attention import HeadShape
from envelope.sensors.decoder_shape import DecoderShape, decode_s, model_record, prefill_s
from envelope.sensors.gpu import GpuFacts, gpu_facts
from envelope.sensors.gpu_kernels import timed_kernel
from envelope.sensors.gpu_measure import FULL_GPU, QUICK_GPU, measure_gpu
from envelope.sensors.gpu_profile import gpu_id, gpu_profile
from envelope.sensors.timing import Effort
from envelope.spec.deployment import EngineSettings
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter
from envelope.spec.memory_rules import MemoryRules
from envelope.validation.local import LocalResult
from envelope.validation.local_score import LocalRow, summaries
from envelope.validation.torch_decoder import TorchDecoder, torch_module

LLAMA_8B: Final = DecoderShape("llama-3.1-8b", 32, 4096, HeadShape(32, 8, 128), 14336, 128_256)
"""Architecture of Llama-3.1-8B (https://huggingface.co/meta-llama/Llama-3.1-8B, config.json)."""
GRAPHS: Final = Engine(
    id="torch-graphs", name="PyTorch, one CUDA graph per step", efficiency_family="any", batching="static",
    chunked_prefill=False, prefix_cache=False, step_overhead_s=0.0, sequence_overhead_s=0.0, request_overhead_s=0.0,
    memory=(MemoryRules(frac=1.0),), default_max_num_seqs=64, default_max_batched_tokens=8192,
    sources={"default": Source(source="a graph adds nothing to kernels", date="2026-11", evidence=Evidence.ASSUMED)},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GpuRuns:
    """The decoder and the points at which it runs."""

    shape: DecoderShape
    prompts: tuple[int, ...]
    decodes: tuple[tuple[int, int], ...]
    """(batch, depth)."""
    effort: Effort


FULL_RUNS = GpuRuns(
    LLAMA_8B, (128, 512, 2048, 8192),
    tuple((b, d) for d in (0, 2048, 8192) for b in (1, 4, 16, 64) if b * d <= 131_072), Effort(15, 0.5, 0),
)  # fmt: skip
QUICK_RUNS = GpuRuns(LLAMA_8B, (512, 2048), ((1, 0), (16, 0), (1, 2048), (16, 2048)), Effort(5, 0.2, 0))


def validate_gpu(report: Reporter, *, profile: HardwareProfile | None, quick: bool) -> LocalResult:
    """Probe the first GPU (unless its ``profile`` is given), run the decoder and score the predictions.

    Raises ``EnvelopeError`` without a GPU, ``MissingExtraError`` without PyTorch.
    """
    torch = torch_module()
    facts = gpu_facts()
    if isinstance(facts, str):
        raise EnvelopeError(facts)
    if not torch.cuda.is_available():
        raise EnvelopeError("PyTorch sees no GPU: torch.cuda.is_available() is false")
    device = torch.device("cuda", 0)
    used = profile or _probed(torch, device, facts[0], quick, lambda share, what: report(0.5 * share, what))
    runs = QUICK_RUNS if quick else FULL_RUNS
    return compare_decoder(torch, device, used, runs, lambda share, what: report(0.5 + 0.5 * share, what))


def _probed(torch: Any, device: Any, facts: GpuFacts, quick: bool, report: Reporter) -> HardwareProfile:
    from envelope.sensors.gpu_torch import TorchBackend

    found = measure_gpu(TorchBackend(torch, device), QUICK_GPU if quick else FULL_GPU, report)
    return gpu_profile(facts, found, gpu_id(facts), idle_w=None, loaded_w=None)


def compare_decoder(torch: Any, device: Any, profile: HardwareProfile, runs: GpuRuns, report: Reporter) -> LocalResult:
    """Run a random-weight decoder at every point and return it beside its predictions; Ctrl-C keeps what is done."""
    longest = max((*runs.prompts, max(batch for batch, _ in runs.decodes)))
    replica = resolve(
        model=model_record(runs.shape), hardware=profile, engine=GRAPHS,
        settings=EngineSettings(max_num_batched_tokens=longest, max_num_seqs=max(b for b, _ in runs.decodes)),
    )  # fmt: skip
    rows: list[LocalRow] = []
    complete = True
    try:
        report(0.0, f"{runs.shape.name} in PyTorch")
        rows.extend(_rows(torch, device, replica, runs))
    except KeyboardInterrupt:
        complete = False
        if not rows:
            raise
    report(1.0, "done")
    return LocalResult(
        profile=profile.id, rows=tuple(rows), summaries=tuple(summaries(rows)), skipped=(), foreign_cpu_frac=None,
        steal_cpu_frac=None, probe_warnings=profile.conditions.warnings if profile.conditions else (),
        complete=complete,
    )  # fmt: skip


def _rows(torch: Any, device: Any, replica: ReplicaSpec, runs: GpuRuns) -> Iterator[LocalRow]:
    """Yield one row for each point, predicted before the decoder exists."""
    points = [(b, 1, d) for b, d in runs.decodes] + [(1, n, 0) for n in runs.prompts]
    predicted = [decode_s(replica, b, d + 1) if new == 1 else prefill_s(replica, new, d) for b, new, d in points]
    decoder = TorchDecoder(torch, runs.shape, device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for (batch, new, depth), seconds in zip(points, predicted, strict=True):
        sample = timed_kernel(decoder.step(batch, new, depth), wait, runs.effort)
        yield LocalRow(
            runner="torch", decoder=runs.shape.name, number_format="bf16", phase="decode" if new == 1 else "prefill",
            batch=batch, new_tokens=new, depth_tokens=depth, predicted_s=seconds, measured_s=sample.median_s,
            spread_frac=sample.spread_frac, noise_frac=sample.noise_frac, experts=False,
        )  # fmt: skip
