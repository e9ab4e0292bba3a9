"""What the licences say, checked against the words of their texts."""

import pytest

from envelope.spec.licence import Licence
from envelope.spec.load import load, load_all


def licence(name: str) -> Licence:
    return load(Licence, "licences", name, file="a test", path="licence")


def test_there_are_the_licences_that_were_promised():
    assert len(load_all(Licence, "licences")) >= 20


@pytest.mark.parametrize("name", ["llama-2-community", "llama-3-community", "llama-3.1-community", "llama-4-community"])
def test_llama_licences_cap_700_million_monthly_users_at_release(name: str):
    found = licence(name)
    assert (found.user_cap, found.user_cap_measured, found.user_cap_effect) == (
        700_000_000,
        "at_release",
        "licence_needed",
    )


def test_llama_3_models_must_show_their_name_and_name_their_derivatives():
    found = licence("llama-3.1-community")
    assert found.display_name == "Built with Llama"
    assert found.display_name_always
    assert found.derivative_name_prefix == "Llama"


def test_multimodal_llama_4_is_closed_to_the_european_union():
    (place,) = licence("llama-4-community").excluded_territories
    assert place.territory == "EU"
    assert "image" in place.modalities


def test_kimi_asks_for_its_name_above_a_hundred_million_users_or_twenty_million_dollars_a_month():
    found = licence("kimi-k2-modified-mit")
    assert (found.user_cap, found.revenue_cap_usd_per_month) == (100_000_000, 20e6)
    assert found.user_cap_effect == found.revenue_cap_effect == "display_name"
    assert not found.display_name_always


def test_a_yearly_cap_is_stored_by_month():
    assert licence("minimax-m2-modified-mit").revenue_cap_usd_per_month == pytest.approx(30e6 / 12)


@pytest.mark.parametrize(
    "name", ["qwen-research", "mistral-research-0.1", "minimax-m2.7-noncommercial", "licence-not-read"]
)
def test_research_licences_forbid_commercial_use_and_hosting(name: str):
    assert not licence(name).commercial_use
    assert not licence(name).hosting_allowed


def test_a_cap_always_says_what_it_means():
    for found in load_all(Licence, "licences"):
        assert (found.user_cap is None) == (found.user_cap_effect is None) == (found.user_cap_measured is None)
        assert (found.revenue_cap_usd_per_month is None) == (found.revenue_cap_effect is None)
        if "display_name" in (found.user_cap_effect, found.revenue_cap_effect) or found.display_name_always:
            assert found.display_name
