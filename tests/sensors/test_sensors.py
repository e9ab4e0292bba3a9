"""Every sensor on tiny sizes obeys physics."""

import numpy as np
import pytest

from envelope.sensors.attention import HeadShape, attention_time, length_values, rotary_tables
from envelope.sensors.bandwidth import thread_counts
from envelope.sensors.cpu import CpuMeasured, disturbed, probe_cpu
from envelope.sensors.experts import touched_experts
from envelope.sensors.gemm import FORMATS, chain_times
from envelope.sensors.onnx_graph import Graph, Weights
from envelope.sensors.power import assumed_power, read_power
from envelope.sensors.storage import StorageTime, storage_time
from envelope.sensors.support import sixteen_bit_support
from envelope.sensors.timing import Effort

from .conftest import TINY

pytest.importorskip("onnxruntime", reason="the probe extra is not installed")
pytest.importorskip("onnx", reason="the probe extra is not installed")

BRIEF = Effort(3, 0.05, 0)


def test_the_probe_measures_everything_it_planned(measured: CpuMeasured) -> None:
    assert measured.complete
    assert {p.kernel for p in measured.bandwidth} == {"read", "copy", "triad"}
    assert set(measured.linear) == set(measured.single) == set(TINY.formats)
    assert len(measured.decode) == 6
    assert len(measured.prefill) == 3
    assert set(measured.experts) == {"fp32", "int4_wo"}
    assert measured.call is not None
    assert measured.support["bf16"] in ("native", "cast to float32", "not implemented")


def test_no_product_is_faster_than_the_best_of_its_unit(measured: CpuMeasured) -> None:
    best = max(t.flop_per_s for times in measured.linear.values() for t in times)
    for times in measured.linear.values():
        assert all(0 < t.flop_per_s <= best for t in times)


def test_more_rows_of_the_same_chain_take_longer(measured: CpuMeasured) -> None:
    # A factor of 128 in rows at no more than a third of the weights: far beyond any noise.
    for times in measured.linear.values():
        per_weight = {t.rows: t.sample.best_s / t.weights for t in times if t.shapes[0] == (2048, 5632)}
        assert per_weight[128] > per_weight[1]


def test_a_longer_chain_takes_longer() -> None:
    short, long = (
        next(iter(chain_times(FORMATS["fp32"], (1,), 1, size, pairs=((1024, 1024),), effort=BRIEF)))
        for size in (8e6, 128e6)
    )
    assert long.weights > 10 * short.weights
    assert long.sample.best_s > short.sample.best_s


def test_attention_to_more_context_takes_longer() -> None:
    shape = HeadShape(8, 2, 64)
    near, far = (attention_time(shape, 1, 1, c, 1, layers=4, effort=BRIEF) for c in (15, 4095))
    assert far.layer_s > near.layer_s


def test_weights_differ_from_tensor_to_tensor() -> None:
    source = Weights()
    assert not np.array_equal(source.floats(8, 8), source.floats(8, 8))
    assert not np.array_equal(source.codes(64), source.codes(64))
    scales = source.scales(0.5, 1000)
    assert np.allclose(np.abs(scales), 0.5, rtol=1e-3)
    assert abs(scales.mean()) < 0.1


def test_products_are_right() -> None:
    """The float chain computes what numpy computes."""
    graph, source = Graph(), Weights(3)
    x = graph.input("x", ["rows", 32])
    y = FORMATS["fp32"].add(graph, source, x, 32, 16)
    graph.output(y, ["rows", 16])
    weight = graph.weights["w0"].copy()
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    bound = graph.session(1).bind({"x": values})
    bound()
    assert np.allclose(bound.outputs()[0], values @ weight, atol=1e-5)


def test_rotary_tables_are_unit_circles() -> None:
    cos, sin = rotary_tables(100, 64)
    assert cos.shape == (100, 32)
    assert np.allclose(cos**2 + sin**2, 1.0, atol=1e-6)
    assert length_values(2, 10)["lengths"].tolist() == [9, 9]


def test_touched_experts_are_counted() -> None:
    logits = np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 0.0, 2.0, 1.0]])
    assert touched_experts(logits, 1) == 1
    assert touched_experts(logits, 2) == 3
    assert touched_experts(logits, 4) == 4


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (1, 2)), (12, (1, 2, 4, 8, 12))])
def test_thread_counts(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


def test_sixteen_bit_formats_are_reported() -> None:
    assert set(sixteen_bit_support()) == {"fp16", "bf16"}


def test_ctrl_c_keeps_what_is_done() -> None:
    def stop_at_attention(_share: float, what: str) -> None:
        if what.startswith("attention"):
            raise KeyboardInterrupt

    found = probe_cpu(TINY, stop_at_attention)
    assert not found.complete
    assert "fp32" in found.linear
    assert not found.decode


def test_ctrl_c_before_anything_useful_is_passed_on() -> None:
    def stop_at_once(_share: float, _what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_cpu(TINY, stop_at_once)


def test_disturbed_quantities_are_named(measured: CpuMeasured) -> None:
    assert all(" of " in line for line in disturbed(measured))


def test_storage_reads_are_timed(tmp_path) -> None:
    found = storage_time(tmp_path, 16 << 20, repeats=2)
    assert isinstance(found, StorageTime)
    assert found.read_bytes == 16 << 20
    assert found.warm.best_s > 0
    assert not list(tmp_path.iterdir())


def test_storage_that_would_be_too_small_is_one_line(tmp_path) -> None:
    assert isinstance(storage_time(tmp_path, 1000), str)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path) -> None:
    found = storage_time(tmp_path / "absent", 16 << 20)
    assert isinstance(found, str)
    assert "cannot be written" in found


def test_watts_from_a_battery(tmp_path) -> None:
    supply = tmp_path / "sys/class/power_supply/BAT0"
    supply.mkdir(parents=True)
    for name, text in (("status", "Discharging"), ("current_now", "1500000"), ("voltage_now", "12000000")):
        (supply / name).write_text(f"{text}\n")
    found = read_power(lambda: None, root=tmp_path, seconds=0.05)
    assert found is not None
    assert (found.idle_w, found.measured) == (pytest.approx(18.0), True)
    (supply / "status").write_text("Charging\n")
    assert read_power(lambda: None, root=tmp_path, seconds=0.05) is None


def test_watts_from_rapl(tmp_path) -> None:
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    package.mkdir(parents=True)
    (package / "energy_uj").write_text("1000\n")
    counter = iter(range(10**9))

    def work() -> None:
        (package / "energy_uj").write_text(f"{1000 + next(counter)}\n")

    found = read_power(work, root=tmp_path, seconds=0.05)
    assert found is not None
    assert found.idle_w == 0.0
    assert found.source == "RAPL package energy"


def test_no_counter_is_a_normal_case(tmp_path) -> None:
    assert read_power(lambda: None, root=tmp_path, seconds=0.01) is None
    assumed = assumed_power(16)
    assert not assumed.measured
    assert assumed.idle_w < assumed.loaded_w
