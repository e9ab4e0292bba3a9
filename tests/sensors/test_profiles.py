"""Probed profiles: valid, loadable by name, usable by the estimator, never half-written."""

from pathlib import Path

import pytest

from envelope.errors import InputError
from envelope.perf import cpu_probe
from envelope.perf.estimate import estimate
from envelope.perf.replica import resolve
from envelope.provenance import Evidence
from envelope.sensors.cpu import CpuMeasured
from envelope.sensors.cpu_profile import architecture, cpu_profile, default_id
from envelope.sensors.power import assumed_power
from envelope.sensors.save import load_probed, require_writable, save_record
from envelope.sensors.storage import storage_time
from envelope.spec import folders, load, yaml_text
from envelope.spec.hardware import HardwareProfile


@pytest.fixture(scope="module")
def profile(measured: CpuMeasured, tmp_path_factory: pytest.TempPathFactory) -> HardwareProfile:
    storage = storage_time(tmp_path_factory.mktemp("disk"), 8 << 20, repeats=2)
    return cpu_profile(measured, "this-machine", power=assumed_power(2), storage=storage)


@pytest.fixture
def folder(tmp_path: Path):
    folders.set_data_dirs((tmp_path,))
    yield tmp_path
    folders.set_data_dirs(())


def test_every_number_says_how_it_was_got(profile: HardwareProfile) -> None:
    assert profile.source_of("peak_flop_per_s").evidence == Evidence.MEASURED
    assert profile.source_of("power").evidence == Evidence.ASSUMED
    assert all(c.evidence == Evidence.MEASURED and c.spread_frac is not None for c in profile.efficiency)
    assert profile.conditions is not None
    assert profile.conditions.complete
    assert profile.conditions.versions["onnxruntime"]
    assert profile.conditions.foreign_cpu_frac is not None
    assert profile.storage is None or profile.storage.cold_read_bytes_per_s > 0


def test_no_share_exceeds_one(profile: HardwareProfile) -> None:
    for curve in profile.efficiency:
        for name in ("eff_c", "eff_b"):
            assert 0 < curve.constants.get(name, 0.5) <= 1


def test_every_table_is_there(profile: HardwareProfile) -> None:
    for form, key in (
        (cpu_probe.LINEAR, "fp32"), (cpu_probe.LINEAR, "int4_wo"), (cpu_probe.DECODE_ATTENTION, "fp32"),
        (cpu_probe.PREFILL_ATTENTION, "fp32"), (cpu_probe.EXPERTS, "int4_wo"), (cpu_probe.ELEMENTWISE, "fp32"),
        (cpu_probe.BANDWIDTH, "any"),
    ):  # fmt: skip
        assert cpu_probe.find(profile.efficiency, form, key) is not None


def test_a_written_profile_loads_by_name_and_predicts(profile: HardwareProfile, folder: Path) -> None:
    path = save_record(profile, "hardware_profiles", profile.id)
    assert path == folder / "hardware_profiles" / "this-machine.yaml"
    again = load.load(HardwareProfile, "hardware_profiles", "this-machine", file="test", path="")
    assert again == profile
    assert load_probed(path) == profile
    replica = resolve(model="llama-3.2-1b", hardware="this-machine", engine="onnxruntime", weights="onnx-int4")
    found = estimate(replica, 64, 16, 1)
    assert found.itl_s is not None
    # No model of 0.7 GB decodes faster than the measured memory reads it.
    assert found.itl_s > 0.5e9 / profile.device_memory.bandwidth_bytes_per_s


def test_an_interrupted_profile_serves_what_it_measured_and_refuses_the_rest(
    profile: HardwareProfile, folder: Path
) -> None:
    """Ctrl-C after the products of float32: no experts, no attention."""
    reached = tuple(c for c in profile.efficiency if c.op in ("gemm", "elementwise", "decode_attention"))
    whole = tuple(c for c in profile.efficiency if c.op != "moe")

    def saved(curves) -> None:
        conditions = profile.conditions.model_copy(update={"complete": False})
        save_record(
            profile.model_copy(update={"conditions": conditions, "efficiency": curves}), "hardware_profiles", profile.id
        )

    choice = {"model": "llama-3.2-1b", "hardware": "this-machine", "weights": "onnx-int4"}
    saved(reached)
    with pytest.raises(InputError, match=r"interrupted before it measured prefill_attention of .*run envelope probe"):
        resolve(**choice, engine="onnxruntime")
    # Constants of llama.cpp come from the processor's family whatever the probe reached.
    assert estimate(resolve(**choice | {"weights": "q4_0"}, engine="llama.cpp"), 64, 16, 1).itl_s is not None
    saved(whole)
    assert estimate(resolve(**choice, engine="onnxruntime"), 64, 16, 1).itl_s is not None
    with pytest.raises(InputError, match="measured moe of"):
        resolve(**choice | {"model": "qwen3-30b-a3b"}, engine="onnxruntime")


def test_a_probe_replaces_its_own_profile_but_no_one_elses(profile: HardwareProfile, folder: Path) -> None:
    path = save_record(profile, "hardware_profiles", profile.id)
    save_record(profile, "hardware_profiles", profile.id)
    by_hand = profile.model_copy(update={"conditions": None})
    path.write_text(yaml_text.to_yaml(by_hand))
    with pytest.raises(InputError, match="was not written by a probe"):
        save_record(profile, "hardware_profiles", profile.id)
    save_record(profile, "hardware_profiles", profile.id, force=True)
    assert load_probed(path) == profile


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t[: len(t) // 3], "is required|not valid YAML"),
        (lambda t: t.replace("peak_flop_per_s", "peak_flops"), "unknown field"),
        (lambda t: t.replace("device_class: cpu", "device_class: toaster"), "device_class"),
        (lambda t: t.replace("activation_s: ", "activations: "), r"constants.activation_s: .*is required"),
        (lambda t: t.replace("causal_attention_table", "prefill_attention_table"), "must be one of"),
        (lambda t: t.replace("complete: true", "complete: false"), "was interrupted"),
        (lambda t: t.replace("bandwidth_bytes_per_s: ", "bandwidth_bytes_per_s: -"), "greater than 0"),
        (lambda t: t.replace("capacity_bytes: ", "capacity_bytes: .nan #"), "finite"),
        (lambda t: "\x00\x01" + t, "not valid YAML"),
        (lambda _t: "", "mapping of fields"),
    ],
)
def test_broken_and_partial_profiles_are_rejected(profile: HardwareProfile, folder: Path, spoil, message: str) -> None:
    path = save_record(profile, "hardware_profiles", profile.id)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        load_probed(path)
    assert "this-machine.yaml" in str(caught.value)


def test_a_profile_without_conditions_is_no_probed_one(profile: HardwareProfile, folder: Path) -> None:
    path = save_record(profile.model_copy(update={"conditions": None}), "hardware_profiles", profile.id)
    with pytest.raises(InputError, match="conditions"):
        load_probed(path)


def test_a_folder_that_cannot_be_written_is_a_clear_error(profile: HardwareProfile, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        save_record(profile, "hardware_profiles", profile.id, folder=blocked)
    # Known before anything is measured, too.
    with pytest.raises(InputError, match="cannot be written: .*--no-save"):
        require_writable("hardware_profiles", folder=blocked)
    require_writable("hardware_profiles", folder=tmp_path)
    assert not list((tmp_path / "hardware_profiles").iterdir())


def test_default_name_is_an_id(measured: CpuMeasured) -> None:
    assert default_id(measured) == default_id(measured).lower().replace(" ", "-")


@pytest.mark.parametrize(
    ("flags", "machine", "family"),
    [
        ({"amx_tile", "avx512f", "avx2"}, "x86_64", "x86-amx"),
        ({"avx512f", "avx2"}, "x86_64", "x86-avx512"),
        ({"sve"}, "aarch64", "arm-neoverse"),
        (set(), "x86_64", "generic-cpu"),
    ],
)
def test_architecture_follows_instruction_sets(flags: set[str], machine: str, family: str) -> None:
    assert architecture(frozenset(flags), machine) == family
