"""Adapters of a workload on a pool: memory and times by hand from the shapes of Llama 3.1 8B on an H100."""

import math

import pytest

from envelope.plan.case.case import case_of
from envelope.plan.case.fleet import build_fleet
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.service.simulate import simulate
from envelope.serving.fleet import ReplicaConfig
from envelope.spec.scenario import Scenario

POOL = {"model": "llama-3.1-8b", "hardware": "nvidia-h100-sxm-80gb", "weights": "bf16"}
# Rank 16: 16·(n + k) on q and o (4096, 4096), k and v (4096, 1024), gate and up (4096, 14336), down (14336, 4096) of
# 32 layers make the 41,943,040 parameters that peft prints, also where the engine fuses q·k·v and gate·up.
ADAPTER_BYTES = 2 * 16 * 32 * (2 * 8192 + 2 * 5120 + 3 * 18432)
KV_BLOCK_BYTES = 16 * 2 * 32 * 8 * 128 * 2


def scenario(names: tuple[str | None, ...], **pool: object) -> Scenario:
    base = load_scenario("coding-assistant")
    tasks = [{"id": f"t{i}", "preset": "chat", "adapter": name} for i, name in enumerate(names)]
    candidate = {"id": "own", "name": "own", "pools": [{**POOL, **pool}]}
    return base.replace({"workload.tasks": tasks, "candidates": [candidate]})


def config(names: tuple[str | None, ...], **pool: object) -> ReplicaConfig:
    made = scenario(names, **pool)
    return build_fleet(case_of(made, made.candidates[0])).pools[0].replica


def test_without_named_adapters_no_place_is_kept() -> None:
    assert config((None, None)).max_adapters == 0


def test_places_and_times_follow_rank_and_shapes() -> None:
    found = config(("a", "b", None, "a"))
    assert found.max_adapters == 2, "one place for each different adapter"
    assert ADAPTER_BYTES == 2 * 41_943_040
    assert found.adapter_blocks == math.ceil(ADAPTER_BYTES / KV_BLOCK_BYTES)
    # PCIe 5.0 x16 and HBM3 of the H100 SXM.
    assert found.adapter_load_s == pytest.approx(ADAPTER_BYTES / 63e9)
    assert found.adapter_each_s == pytest.approx(ADAPTER_BYTES / 3.35e12, rel=1e-3)
    assert config(("a",), adapters={"rank": 64}).adapter_load_s == pytest.approx(4 * found.adapter_load_s)


def test_adapters_are_spread_like_the_weights() -> None:
    one, two = config(("a",)), config(("a",), parallelism={"tp": 2})
    assert two.adapter_load_s == pytest.approx(one.adapter_load_s / 2)


def test_a_full_kv_cache_gives_the_blocks_of_the_places_away() -> None:
    settings = {"kv_blocks": 5000}
    plain, adapted = config((None,), settings=settings), config(("a", "b"), settings=settings)
    assert plain.usable_blocks - adapted.usable_blocks == 2 * adapted.adapter_blocks


def test_fewer_places_than_adapters_can_be_asked_for() -> None:
    assert config(("a", "b", "c"), adapters={"max_loaded": 2}).max_adapters == 2


def test_adapters_that_leave_no_kv_cache_are_a_verdict_with_its_fix() -> None:
    settings = {"kv_blocks": 100}
    made = scenario(("a", "b"), adapters={"rank": 16}, settings=settings)
    blocks = math.ceil(ADAPTER_BYTES / KV_BLOCK_BYTES)
    assert case_of(made, made.candidates[0]).runs == (2 * blocks < 100)
    big = scenario(("a", "b"), adapters={"rank": 32}, settings=settings)
    bench = case_of(big, big.candidates[0])
    assert not bench.runs
    (reason,) = bench.reasons
    assert reason.rule == "adapters_fit"
    assert "2 adapters of rank 32" in reason.text
    assert reason.fix == "keep 1 on the device at once (adapters.max_loaded), or use adapters of rank 16"
    assert "adapters of rank 32" in " ".join(str(r) for r in simulate(big, "own").reasons)
    for adapters in ({"rank": 32, "max_loaded": 1}, {"rank": 16}):
        assert config(("a", "b"), adapters=adapters, settings=settings).usable_blocks >= 1
