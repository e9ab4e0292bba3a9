"""Every device, server, engine and efficiency family: loads, is sourced, resolves and is physically plausible."""

from collections import defaultdict

import pytest

from envelope.errors import InputError
from envelope.perf.efficiency import format_keys, peak_flop_per_s, pick
from envelope.perf.replica import all_formats
from envelope.provenance import Evidence
from envelope.spec.efficiency import EfficiencyFamily
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile, ServerProfile
from envelope.spec.load import load, load_all

DEVICES = load_all(HardwareProfile, "hardware_profiles")
FAMILIES = load_all(EfficiencyFamily, "efficiency")
ENGINES = load_all(Engine, "engines")
DEMANDED = [
    "nvidia-rtx-3060-12gb", "nvidia-rtx-3090-24gb", "nvidia-rtx-4090-24gb", "nvidia-rtx-5090-32gb", "nvidia-l4-24gb",
    "nvidia-l40s-48gb", "nvidia-a10-24gb", "nvidia-a100-sxm-80gb", "nvidia-h100-pcie-80gb", "nvidia-h100-sxm-80gb",
    "nvidia-h100-nvl-94gb", "nvidia-h200-sxm-141gb", "nvidia-gh200-96gb", "nvidia-b200-sxm-180gb",
    "nvidia-b300-sxm-288gb", "nvidia-gb200-186gb", "nvidia-gb300-288gb", "amd-mi300x-192gb", "amd-mi325x-256gb",
    "amd-mi355x-288gb", "nvidia-h800-sxm-80gb", "intel-gaudi-3-128gb", "nvidia-dgx-spark-128gb",
    "nvidia-jetson-agx-orin-64gb", "amd-ryzen-ai-max-395-128gb", "intel-core-ultra-258v-32gb", "apple-m1-16gb",
    "apple-m2-ultra-192gb", "apple-m3-max-128gb", "apple-m4-max-128gb", "apple-m5-32gb", "intel-xeon-6980p-768gb",
    "amd-epyc-9654-768gb", "raspberry-pi-5-16gb", "intel-core-i7-1165g7-16gb", "intel-core-i7-13700h-32gb",
]  # fmt: skip
FOREIGN = {
    "H100": "nvidia-h100-sxm-80gb",
    "H100 SXM": "nvidia-h100-sxm-80gb",
    "h100_sxm": "nvidia-h100-sxm-80gb",
    "NVIDIA H100 80GB HBM3": "nvidia-h100-sxm-80gb",
    "H100-PCIe": "nvidia-h100-pcie-80gb",
    "NVIDIA GeForce RTX 4090": "nvidia-rtx-4090-24gb",
    "3080 Ti 12GB": "nvidia-rtx-3080-ti-12gb",
    "GB10-DGX-Spark": "nvidia-dgx-spark-128gb",
    "Strix-Halo": "amd-ryzen-ai-max-395-128gb",
    "Apple-M2-Max-CPU": "apple-m2-max-cpu-64gb",
    "b200_sxm": "nvidia-b200-sxm-180gb",
    "MI300X": "amd-mi300x-192gb",
    "Arc-B580": "intel-arc-b580-12gb",
}


@pytest.mark.parametrize("ident", DEMANDED)
def test_device_that_users_ask_for_is_there(ident):
    assert ident in {d.id for d in DEVICES}


@pytest.mark.parametrize(("name", "ident"), FOREIGN.items())
def test_foreign_name_resolves(name, ident):
    assert load(HardwareProfile, "hardware_profiles", name, file="test", path="hardware").id == ident


def test_unknown_device_answers_with_the_nearest():
    with pytest.raises(InputError, match="nvidia-h100"):
        load(HardwareProfile, "hardware_profiles", "nvidia-h100-sxm-90gb", file="test", path="hardware")


def test_a_name_means_one_device():
    owners = defaultdict(set)
    for device in DEVICES:
        for name in (device.id, device.name, *device.aliases):
            owners[name.strip().lower().replace("_", "-").replace(" ", "-")].add(device.id)
    assert {name: ids for name, ids in owners.items() if len(ids) > 1} == {}


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.id)
def test_numbers_of_a_device_are_plausible(device):
    memory, peaks = device.device_memory, device.peak_flop_per_s
    assert 4e9 <= memory.capacity_bytes <= 2e12
    assert 1e10 <= memory.bandwidth_bytes_per_s <= 3e13
    assert device.power.idle_w < device.power.max_w
    assert max(peaks.values()) >= peaks.get("fp32", 0.0)
    best = max(peaks.values())
    # arithmetic intensity of real devices: from CPUs with fast memory to accelerators of matrix products
    assert 1e-1 < best / memory.bandwidth_bytes_per_s < 1e4


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.id)
def test_sparse_peaks_are_not_listed_as_dense(device):
    peaks = device.peak_flop_per_s
    if {"bf16", "fp8"} <= peaks.keys():
        assert peaks["fp8"] <= 5 * peaks["bf16"]
    if {"fp32", "fp16"} <= peaks.keys() and device.vendor == "NVIDIA" and device.architecture != "hopper":
        assert peaks["fp16"] <= 33 * peaks["fp32"]


def test_recalled_numbers_are_marked_assumed():
    h100 = load(HardwareProfile, "hardware_profiles", "nvidia-h100-sxm-80gb", file="test", path="hardware")
    assert h100.source_of("peak_flop_per_s.tf32").evidence is Evidence.ASSUMED
    assert h100.source_of("peak_flop_per_s.bf16").evidence is Evidence.DATASHEET
    assert h100.source_of("power.idle_w").evidence is Evidence.ASSUMED
    for device in DEVICES:
        for path, source in device.sources.items():
            if "recalled" in source.source:
                assert source.evidence is Evidence.ASSUMED, (device.id, path)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.id)
def test_every_operator_finds_constants_on_every_device(device):
    formats = [all_formats()[name] for name in ("bf16", "fp8", "nvfp4", "q4_k_m", "awq-int4")]
    for engine in ENGINES:
        for number_format in formats:
            for op in ("gemm", "moe", "decode_attention", "prefill_attention", "elementwise", "all_reduce", "power"):
                chosen = pick(device, engine, op, format_keys(number_format))
                assert chosen.constants, (device.id, engine.id, op)
            assert peak_flop_per_s(device, number_format.compute)[0] > 0


CURVES = [(d.id, c) for d in DEVICES for c in d.efficiency] + [(f.id, c) for f in FAMILIES for c in f.curves]


def test_shares_of_a_peak_stay_within_it():
    for owner, curve in CURVES:
        c = curve.constants
        if curve.op in ("decode_attention", "prefill_attention", "elementwise"):
            assert 0 < c.get("eff_b", 0.5) <= 1.0, (owner, curve.op)
        if curve.op in ("gemm", "moe"):
            # fitted shares may pass 1 where occupancy or padding terms multiply them; the roofline caps the result
            assert 0 < c["eff_b"] <= 2.0, (owner, curve)
            assert 0 < c["eff_c"] <= 1.6, (owner, curve)
            assert c["t0_s"] < 1e-4, (owner, "an eager-launch artefact")


def test_measured_constants_name_their_residual():
    for owner, curve in CURVES:
        if curve.evidence is Evidence.FITTED:
            assert curve.error_median_frac is not None, owner
            assert curve.error_median_frac < 0.35, owner


def test_families_reach_a_last_resort():
    names = {f.id for f in FAMILIES}
    for family in FAMILIES:
        assert set(family.inherits) <= names
    assert {d.architecture for d in DEVICES} <= names


@pytest.mark.parametrize("server", load_all(ServerProfile, "servers"), ids=lambda s: s.id)
def test_server_holds_devices_that_exist(server):
    device = load(HardwareProfile, "hardware_profiles", server.device, file=server.id, path="device")
    assert server.power_max_w > 0.9 * server.device_count * device.power.max_w
    assert server.power_idle_w is not None
    assert server.power_idle_w < server.power_max_w
