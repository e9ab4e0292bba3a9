"""Error bands: what follows from what, and what happens outside what was scored."""

import pytest

from envelope.perf.bands import error_bands
from envelope.perf.estimate import estimate
from envelope.perf.replica import resolve
from envelope.spec.error_band import find_band


def test_e2e_lies_between_the_first_token_and_the_gaps():
    found = estimate(resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb"), 4000, 50, 8)
    assert found.provenance is not None
    bands = found.provenance.error_bands
    first, gaps, whole = (bands[name].median_error_frac for name in ("ttft_s", "itl_s", "e2e_s"))
    assert min(first, gaps) <= whole <= max(first, gaps)
    assert found.ttft_s is not None
    assert found.e2e_s is not None
    share = found.ttft_s / found.e2e_s
    assert whole == pytest.approx(share * first + (1 - share) * gaps)
    assert bands["output_tokens_per_s"].median_error_frac == whole
    power, energy = bands["power_w"].median_error_frac, bands["energy_per_output_token_j"].median_error_frac
    assert energy == pytest.approx((power**2 + whole**2) ** 0.5)


def test_one_answered_token_is_as_true_as_the_first():
    found = estimate(resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb"), 4000, 1)
    assert found.provenance is not None
    bands = found.provenance.error_bands
    assert bands["e2e_s"].median_error_frac == bands["ttft_s"].median_error_frac


def test_outside_what_was_scored_the_band_is_the_wider_one():
    replica = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb")
    scored = find_band("decode", "datacenter_gpu", "dense")
    assert scored is not None
    most = scored.scored.max_batch_per_device
    assert most is not None
    inside = error_bands(replica, batch=most)["itl_s"]
    beyond = error_bands(replica, batch=2 * most)["itl_s"]
    assert inside.outside == ()
    assert inside.median_error_frac == scored.median_ape_frac
    assert beyond.outside == (f"more than {most:,.0f} requests a device",)
    assert beyond.median_error_frac == scored.p90_ape_frac
    assert beyond.p90_error_frac >= scored.p90_ape_frac


def test_a_format_that_nobody_measured_is_named():
    replica = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", weights="iq1_s", engine="llama.cpp")
    assert "weights in iq1_s" in error_bands(replica)["itl_s"].outside


def test_memory_has_a_band_of_its_own_kind():
    latent = error_bands(resolve(model="deepseek-v3", hardware="nvidia-h200-sxm-141gb"))
    assert "kv_bytes" in latent
    assert "latent" in latent["kv_bytes"].scored_on or "any" in latent["kv_bytes"].scored_on
