"""Charts of what fits: memory of a device, sequences by context, operators on the roofline."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair as alt

from envelope.perf.estimate import MemoryUse
from envelope.plan.deployment.operator_roofline import OperatorRoofline, Roof
from envelope.report import text
from envelope.report.charts.base import SHORT, TOKENS, below, colour, described, label_axis, log_axis, shape, values
from envelope.report.charts.palette import DASHES, EMPTY, NEUTRAL, PALETTE, SHADES, cycled
from envelope.spec.hardware import HardwareProfile
from envelope.units import GB

if TYPE_CHECKING:
    from envelope.plan.deployment.fit_map import FitMap

_PARTS = ("weights", "activations", "overhead", "KV cache", "kept free", "short by")
_PART_COLOURS = (PALETTE[0], PALETTE[4], NEUTRAL, PALETTE[2], EMPTY, PALETTE[1])


def memory_bars(uses: Mapping[str, MemoryUse]) -> Any:
    """Return one stacked bar for each memory of a device: weights, activations, overhead, cache, what is kept free.

    What exceeds the budget is a part of its own, beyond the line of the capacity.
    """
    rows = [row for label, use in uses.items() for row in _memory_rows(label, use)]
    labels = list(dict.fromkeys(row["where"] for row in rows))
    base = alt.Chart(values(rows))
    bars = base.mark_bar(size=22, stroke=NEUTRAL, strokeWidth=0.5).encode(
        x=alt.X("gb:Q", title="GB per device (10⁹ bytes)", stack="zero"),
        y=alt.Y("where:N", title=None, sort=labels, axis=label_axis()),
        color=alt.Color(
            "part:N", title=None, sort=list(_PARTS), legend=below(3),
            scale=alt.Scale(domain=list(_PARTS), range=list(_PART_COLOURS)),
        ),
        order=alt.Order("order:Q"),
        tooltip=["where:N", "part:N", alt.Tooltip("gb:Q", title="GB", format=",.2f")],
    )  # fmt: skip
    ends = base.mark_tick(thickness=3, size=30, color=NEUTRAL).encode(
        x=alt.X("max(capacity_gb):Q"),
        y=alt.Y("where:N", sort=labels),
        tooltip=["where:N", alt.Tooltip("max(capacity_gb):Q", title="capacity, GB", format=",.1f")],
    )
    told = "; ".join(f"{label}: {use.equation}" for label, use in uses.items())
    return described(alt.layer(bars, ends), f"Memory by device. {told}", height=max(len(labels), 1) * 40, legend_rows=2)


def _memory_rows(label: str, use: MemoryUse) -> list[dict[str, Any]]:
    rows = []
    for domain in use.domains:
        if domain.name != "device" and not domain.weights_bytes:
            continue
        need = domain.weights_bytes + domain.activations_bytes + domain.overhead_bytes
        sizes: tuple[float, ...] = (
            domain.weights_bytes, domain.activations_bytes, domain.overhead_bytes, domain.kv_bytes,
            max(domain.capacity_bytes - max(need + domain.kv_bytes, 0.0), 0.0) if need <= domain.budget_bytes else 0.0,
            0.0,
        )  # fmt: skip
        if need > domain.budget_bytes:
            sizes = (*_cut(sizes[:3], domain.budget_bytes), 0.0, 0.0, need - domain.budget_bytes)
        where = label if domain.name == "device" else f"{label} ({domain.name} memory)"
        rows += [
            {"where": where, "part": part, "order": i, "gb": size / GB, "capacity_gb": domain.capacity_bytes / GB}
            for i, (part, size) in enumerate(zip(_PARTS, sizes, strict=True))
            if size > 0
        ]
    return rows


def _cut(sizes: tuple[float, ...], room: float) -> tuple[float, ...]:
    """Return the parts that lie within the room; the rest is what is short."""
    kept = []
    for size in sizes:
        kept.append(min(size, max(room, 0.0)))
        room -= size
    return tuple(kept)


def fit_heat_map(found: "FitMap") -> Any:
    """Return the map of contexts and concurrencies: the share of the KV cache in use, crosses where it is too small."""
    rows = []
    for context in found.contexts_tokens:
        for concurrency in found.concurrencies:
            used = found.used_frac(context, concurrency)
            fits = used is not None and used <= 1
            rows.append(
                {
                    "context": context, "concurrency": concurrency, "used": min(used or 1.0, 1.0) if fits else None,
                    "fits": "fits" if fits else "does not fit",
                    "told": f"{used:.0%} of the KV cache" if used is not None else "not one sequence fits",
                }
            )  # fmt: skip
    base = alt.Chart(values(rows)).encode(
        x=alt.X("context:O", title="context, tokens (k is 1,024)", axis=alt.Axis(labelExpr=TOKENS, labelAngle=0)),
        y=alt.Y("concurrency:O", title="sequences at once", sort="descending"),
        tooltip=[
            alt.Tooltip("context:Q", title="context, tokens", format=","), "concurrency:Q", "fits:N",
            alt.Tooltip("told:N", title="takes"),
        ],
    )  # fmt: skip
    cells = base.mark_rect(stroke=NEUTRAL, strokeWidth=0.5).encode(
        color=alt.Color(
            "used:Q",
            title="KV cache in use",
            legend=alt.Legend(orient="bottom", format=".0%", gradientLength=180),
            scale=alt.Scale(domain=[0, 1], range=list(SHADES)),
        )
    )
    crosses = (
        base.transform_filter("datum.fits === 'does not fit'")
        .mark_point(shape="cross", angle=45, size=60, color=PALETTE[1], filled=True)
        .encode()
    )
    told = "; ".join(f"{c:,} tokens {h:,}" for c, h in zip(found.contexts_tokens, found.held, strict=True))
    return described(
        alt.layer(cells, crosses),
        f"Sequences that {found.model} on {found.hardware} holds at once by context: {told}. Crosses do not fit.",
        height=max(len(found.concurrencies), 5) * 26,
        legend_rows=2,
    )


def roofline(found: OperatorRoofline) -> Any:
    """Return the operators of a decode and a prefill step under the device's roofs, log-log."""
    rows = [
        {
            "operator": p.name.replace("_", " "), "phase": p.phase, "bound": p.bound,
            "intensity": p.intensity_flop_per_byte, "rate": p.flop_per_s, "time_ms": p.time_s * 1e3,
        }
        for p in found.points
    ]  # fmt: skip
    roofs = [f"{roof.number_format}, {text.si(roof.flop_per_s, 'FLOP/s')}" for roof in found.roofs]
    points = (
        alt.Chart(values(rows))
        .mark_point(filled=True, size=80, opacity=0.85)
        .encode(
            x=_intensity(),
            y=_rate(),
            color=colour("phase", ["decode", "prefill"], columns=2),
            shape=shape("phase", ["decode", "prefill"], columns=2),
            tooltip=[
                "operator:N", "phase:N", "bound:N", alt.Tooltip("intensity:Q", title="FLOP per byte", format=",.1f"),
                alt.Tooltip("rate:Q", title="FLOP/s", format=".3~s"),
                alt.Tooltip("time_ms:Q", title="time, ms", format=",.3~g"),
            ],
        )
    )  # fmt: skip
    lines = (
        alt.Chart(values(_roof_rows(found, roofs)))
        .mark_line(strokeWidth=2, color=NEUTRAL)
        .encode(
            x=_intensity(),
            y=_rate(),
            strokeDash=alt.StrokeDash(
                "roof:N", title=None, legend=below(2),
                scale=alt.Scale(domain=roofs, range=[list(dash) for dash in cycled(DASHES, len(roofs))]),
            ),
            tooltip=[alt.Tooltip("roof:N", title="roof")],
        )
    )  # fmt: skip
    worst = "; ".join(
        f"{p.name} ({p.phase}) {p.bound}-bound" for p in sorted(found.points, key=lambda p: -p.time_s)[:4]
    )
    subject = f"{found.model} on {found.hardware}" if found.model else found.hardware
    longest = f"; the longest operators: {worst}" if worst else ""
    drawn = alt.layer(lines, points) if rows else alt.layer(lines)
    return described(
        drawn.resolve_scale(color="independent", shape="independent", strokeDash="independent"),
        f"Roofline of {subject}: {'; '.join(roofs)}{longest}.",
        height=320,
        legend_rows=1,
    )


def device_roofs(profile: HardwareProfile) -> Any:
    """Return the roofs of a device: what its memory and each of its matrix units allow, log-log."""
    same: dict[float, list[str]] = {}
    for key, peak in profile.peak_flop_per_s.items():
        same.setdefault(peak, []).append(key)
    roofs = [Roof(number_format=", ".join(same[peak]), flop_per_s=peak) for peak in sorted(same, reverse=True)]
    return roofline(
        OperatorRoofline(
            model="", hardware=profile.name, bandwidth_bytes_per_s=profile.memory[0].bandwidth_bytes_per_s,
            roofs=tuple(roofs), points=(), step_s={}, shown_frac={},
        )
    )  # fmt: skip


def _roof_rows(found: OperatorRoofline, names: list[str]) -> list[dict[str, Any]]:
    ends = [p.intensity_flop_per_byte for p in found.points] or [1.0]
    knees = [roof.flop_per_s / found.bandwidth_bytes_per_s for roof in found.roofs]
    low, high = min(ends + knees) / 2, max(ends + knees) * 2
    rows = []
    for name, roof, knee in zip(names, found.roofs, knees, strict=True):
        rows += [
            {"roof": name, "intensity": x, "rate": min(x * found.bandwidth_bytes_per_s, roof.flop_per_s)}
            for x in (low, knee, high)
        ]
    return rows


def _intensity() -> alt.X:
    return alt.X("intensity:Q", title="FLOP per byte moved", scale=alt.Scale(type="log"), axis=log_axis(SHORT))


def _rate() -> alt.Y:
    return alt.Y("rate:Q", title="FLOP/s", scale=alt.Scale(type="log"), axis=log_axis("format(datum.value, '~s')"))
