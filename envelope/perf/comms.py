"""Time of messages between devices: all-reduce, all-to-all, hand-over between pipeline stages."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from envelope.perf.efficiency import Chosen
from envelope.perf.roofline import Floats
from envelope.spec.hardware import HardwareProfile, Link

MEASURED: Final = (2, 4, 8)
"""Group sizes that all-reduce curves are measured at."""
NETWORK_LATENCY_S: Final = 1.2e-5
"""One hop between nodes over RDMA, where a profile gives none (a judgement; NCCL over InfiniBand)."""
NETWORK_FRAC: Final = 0.8
"""Share of a NIC's line rate that collectives reach (a judgement)."""
NO_LINK_BYTES_PER_S: Final = 1.25e9
"""10 Gbit/s Ethernet: what devices without a known link are joined by."""
DISPATCH_FRAC: Final = 0.6
"""Share of the links' rate that expert dispatch and combine inside a node reach (a judgement)."""
HAND_OVER_FRAC: Final = 0.7
"""Share of the links' rate that one message between pipeline stages reaches (a judgement: no collective, one pair)."""
HAND_OVER_S: Final = 1e-5
"""Time to start such a message: a send and a receive of NCCL (a judgement)."""
FAST: Final = ("nvlink", "infinity_fabric", "other")
CARDS_PER_NODE: Final = 8


@dataclass(frozen=True, slots=True)
class Fabric:
    """How a group of devices is joined: bridges or a switch, then the host's PCIe, then a network."""

    link: Link
    """Innermost tier."""
    link_devices: int
    """Devices that the innermost tier joins."""
    node: Link
    """Tier that joins all devices of a node where the innermost does not."""
    node_devices: int
    network_bytes_per_s: float
    """Per device, beyond the node."""

    def inside(self, devices: int) -> Link:
        """Return the tier that carries the messages of ``devices`` devices of one node."""
        return self.link if devices <= self.link_devices else self.node


def fabric(hardware: HardwareProfile, node_devices: int | None = None) -> Fabric:
    """Return the tiers that join devices of one profile; ``node_devices`` is the server's device count.

    A bridge of two or four cards is the inner tier of a node of eight on PCIe; a switched fabric is the node.
    """
    fast = next((link for link in hardware.links if link.kind in FAST), None)
    network = hardware.link("network")
    wide = Link(kind="network", bandwidth_bytes_per_s=NO_LINK_BYTES_PER_S)
    outer = hardware.link("pcie") or network or wide
    line = network.bandwidth_bytes_per_s if network else NO_LINK_BYTES_PER_S
    if fast is None:
        return Fabric(outer, 1, outer, node_devices or CARDS_PER_NODE, line)
    joined = fast.peers or CARDS_PER_NODE
    bridged = joined < CARDS_PER_NODE
    node = node_devices or (CARDS_PER_NODE if bridged else joined)
    return Fabric(fast, joined, outer if bridged else fast, max(node, 1), line)


def all_reduce_s(message_bytes: Floats, devices: int, net: Fabric, curve: Chosen) -> Floats:
    r"""Return the time of an all-reduce of ``message_bytes`` over ``devices``; 0 for one device.

    ``t0 + log·ln(1 + S/s0) + 2(n−1)/n·S/(bus·link)`` within a node; across nodes a ring over the network on top
    of the inner one, each device carrying its share. Constants by group size, interpolated in log n.
    """
    if devices <= 1:
        return np.zeros_like(message_bytes)
    inside = min(devices, net.node_devices)
    time = _within_node(message_bytes, inside, net, curve)
    nodes = math.ceil(devices / net.node_devices)
    if nodes > 1:
        share = message_bytes / max(inside, 1)
        hops = 2.0 * (nodes - 1) / nodes
        time = time + 2.0 * math.ceil(math.log2(nodes)) * NETWORK_LATENCY_S
        time = time + hops * share / (net.network_bytes_per_s * NETWORK_FRAC)
    return time


def _within_node(message_bytes: Floats, devices: int, net: Fabric, curve: Chosen) -> Floats:
    if devices <= 1:
        return np.zeros_like(message_bytes)
    start = _by_size(curve, "t0_s", devices)
    bus = _by_size(curve, "bus", devices) * net.inside(devices).bandwidth_bytes_per_s
    log, scale = _by_size(curve, "log_s", devices), _by_size(curve, "scale_bytes", devices)
    ring = 2.0 * (devices - 1) / devices * message_bytes / bus
    grow = log * np.log1p(message_bytes / scale) if scale > 0 else 0.0
    return start + grow + ring


def _by_size(curve: Chosen, name: str, devices: int) -> float:
    """Return a constant for a group of ``devices``, interpolated in log2 between the measured sizes."""
    known = [n for n in MEASURED if f"{name}_{n}" in curve.constants]
    if not known:
        return 0.0
    values = [curve.constants[f"{name}_{n}"] for n in known]
    return float(np.interp(math.log2(devices), [math.log2(n) for n in known], values))


def all_to_all_s(tokens: Floats, top_k: int, hidden: int, ranks: int, net: Fabric, curve: Chosen) -> Floats:
    """Return dispatch plus combine of routed tokens between ``ranks``, each holding ``tokens``/ranks of them.

    Each token goes to min(top_k, ranks) ranks, 1 byte per element out (fp8) and 2 back (bf16); latency as of an
    all-reduce start, twice. Across nodes the faster of one message per rank and of one per node, forwarded inside
    it (low-latency and normal kernels of Zhao et al., DeepEP, https://github.com/deepseek-ai/DeepEP).
    """
    if ranks <= 1:
        return np.zeros_like(tokens)
    held = tokens / ranks * hidden * 3.0
    inside = held * min(top_k, ranks) * (ranks - 1) / ranks / (net.inside(ranks).bandwidth_bytes_per_s * DISPATCH_FRAC)
    if ranks <= net.node_devices:
        return 2.0 * _by_size(curve, "t0_s", min(ranks, 8)) + inside
    nodes = ranks / net.node_devices
    line = net.network_bytes_per_s * NETWORK_FRAC
    direct = 4.0 * NETWORK_LATENCY_S + held * min(top_k, ranks) * (1.0 - 1.0 / nodes) / line
    reached = nodes * (1.0 - (1.0 - 1.0 / nodes) ** top_k)
    relayed = 8.0 * NETWORK_LATENCY_S + np.maximum(held * reached * (1.0 - 1.0 / nodes) / line, inside)
    return np.minimum(direct, relayed)


def hand_over_s(tokens: Floats, hidden: int, net: Fabric, stages: int) -> Floats:
    """Return the time to pass the activations of ``tokens`` through ``stages`` − 1 pipeline borders (bf16)."""
    if stages <= 1:
        return np.zeros_like(tokens)
    inside = stages <= net.node_devices
    linked, network = net.inside(stages).bandwidth_bytes_per_s * HAND_OVER_FRAC, net.network_bytes_per_s * NETWORK_FRAC
    rate = linked if inside else network
    return (stages - 1) * (HAND_OVER_S + tokens * hidden * 2.0 / rate)
