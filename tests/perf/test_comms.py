"""Messages between devices: nothing for one device, ring arithmetic, tiers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.perf.comms import Fabric, all_reduce_s, all_to_all_s, fabric, hand_over_s
from envelope.perf.costs import bench, token_costs
from envelope.perf.efficiency import Chosen, pick
from envelope.perf.replica import resolve
from envelope.provenance import Evidence
from envelope.spec.deployment import Parallelism
from envelope.spec.hardware import HardwareProfile, Link
from envelope.spec.load import load

NVLINK = Link(kind="nvlink", bandwidth_bytes_per_s=450e9, peers=8)
NODE = Fabric(NVLINK, 8, NVLINK, 8, 50e9)
RING = Chosen("test", {"t0_s_2": 5e-6, "bus_2": 1.0, "t0_s_8": 5e-6, "bus_8": 1.0}, None, Evidence.MEASURED, "test")


def device(name: str) -> HardwareProfile:
    return load(HardwareProfile, "hardware_profiles", name, file="test", path="hardware")


def test_one_device_sends_nothing():
    message = np.array([0.0, 1e6])
    assert np.all(all_reduce_s(message, 1, NODE, RING) == 0)
    assert np.all(all_to_all_s(message, 8, 7168, 1, NODE, RING) == 0)
    assert np.all(hand_over_s(message, 8192, NODE, 1) == 0)
    replica = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb")
    assert sum(float(c.communication_s.sum()) for c in token_costs(bench(replica), message[1:])) == 0


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_large_all_reduce_takes_the_time_of_a_ring(devices):
    size = 1e9
    expected = 5e-6 + 2 * (devices - 1) / devices * size / 450e9
    assert all_reduce_s(np.array([size]), devices, NODE, RING)[0] == pytest.approx(expected)


def test_measured_all_reduce_of_eight_h100_is_reproduced():
    # aiconfigurator tables, vLLM custom all-reduce in a graph: floor 4.6 µs, up to 468.7 GB/s of bus bandwidth
    replica = resolve(model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb", parallelism=Parallelism(tp=8))
    b = bench(replica)
    chosen = pick(replica.hardware, replica.engine, "all_reduce", ("nvlink", "any"))
    assert all_reduce_s(np.array([256.0]), 8, b.net, chosen)[0] == pytest.approx(4.7e-6, rel=0.1)
    large = all_reduce_s(np.array([2.0**30]), 8, b.net, chosen)[0]
    assert 2 * 7 / 8 * 2.0**30 / large == pytest.approx(435e9, rel=0.1)


def test_two_nodes_pay_for_the_network():
    size = np.array([1e8])
    # on top of the node's own ring, each device carries an eighth to the other node: 1e8 / 8 / (0.8 · 50 GB/s)
    extra = all_reduce_s(size, 16, NODE, RING)[0] - all_reduce_s(size, 8, NODE, RING)[0]
    assert extra == pytest.approx(1e8 / 8 / 40e9 + 2 * 12e-6)


@given(scale=st.floats(1.0, 20.0), size=st.floats(0, 1e9), devices=st.sampled_from([2, 3, 4, 8, 16, 64]))
def test_faster_links_are_never_slower(scale, size, devices):
    link = Link(kind="nvlink", bandwidth_bytes_per_s=450e9 * scale, peers=8)
    fast = Fabric(link, 8, link, 8, 50e9 * scale)
    message = np.array([size])
    assert all_reduce_s(message, devices, fast, RING)[0] <= all_reduce_s(message, devices, NODE, RING)[0]
    assert (
        all_to_all_s(message, 8, 7168, devices, fast, RING)[0] <= all_to_all_s(message, 8, 7168, devices, NODE, RING)[0]
    )


def test_cards_without_nvlink_talk_over_pcie():
    net = fabric(device("nvidia-l40s-48gb"))
    assert net.link.kind == "pcie"
    assert fabric(device("nvidia-h100-sxm-80gb")).link.kind == "nvlink"
    assert fabric(device("amd-mi300x-192gb")).link.kind == "infinity_fabric"
    assert fabric(device("nvidia-gb200-186gb")).node_devices == 72


def test_a_bridge_joins_two_cards_and_pcie_the_others():
    net = fabric(device("nvidia-a100-pcie-80gb"))
    assert net.inside(2).kind == "nvlink"
    assert net.inside(4).kind == "pcie"
    assert net.node_devices == 8


def test_all_to_all_grows_with_the_tokens_and_saturates_with_the_ranks():
    few = all_to_all_s(np.array([64.0, 512.0]), 8, 7168, 8, NODE, RING)
    assert few[1] > few[0]
    # each token goes to at most top_k ranks
    rack = Link(kind="nvlink", bandwidth_bytes_per_s=900e9, peers=72)
    wide = Fabric(rack, 72, rack, 72, 50e9)
    moved_16 = all_to_all_s(np.array([1e5]), 8, 7168, 16, wide, RING)[0] * 16
    moved_64 = all_to_all_s(np.array([1e5]), 8, 7168, 64, wide, RING)[0] * 64
    assert moved_64 == pytest.approx(moved_16, rel=0.2)


def test_nodes_relay_large_dispatches():
    # 32 ranks, 8192 tokens each: of four nodes a token reaches 4·(1 − (3/4)^8) = 3.6, three quarters of them remote
    tokens, held = np.array([32 * 8192.0]), 8192 * 7168 * 3.0
    reached = 4 * (1 - 0.75**8) * 0.75
    expected = 8 * 12e-6 + held * reached / 40e9
    assert all_to_all_s(tokens, 8, 7168, 32, NODE, RING)[0] == pytest.approx(expected)


@pytest.mark.parametrize("tokens", [32.0, 4096.0, 32 * 8192.0])
def test_transfers_between_nodes_overlap_with_work_where_it_pays(tokens):
    parallelism = Parallelism(tp=1, dp=32, ep=32)
    b = bench(resolve(model="deepseek-v3", hardware="nvidia-h100-sxm-80gb", parallelism=parallelism))
    costs = token_costs(b, np.array([tokens]))
    work = sum(c.time_s[0] for c in costs if c.name != "all_to_all")
    exposed = next(c.time_s[0] for c in costs if c.name == "all_to_all")
    curve = pick(b.replica.hardware, b.replica.engine, "all_reduce", ("nvlink", "any"))
    sent = 58 * all_to_all_s(np.array([tokens]), 8, 7168, 32, b.net, curve)[0]
    assert 0 < exposed <= sent * (1 + 1e-9)
    assert work + exposed >= max(work, sent) * (1 - 1e-9)
    if tokens > 1e5:
        assert exposed < 0.5 * sent
