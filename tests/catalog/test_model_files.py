"""Every model file: complete, sourced, dated, its licence and formats known, no name for two models."""

import re

import pytest

from envelope.provenance import Evidence
from envelope.spec.licence import Licence
from envelope.spec.load import ids, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

MODELS = load_all(Model, "models")

FAMILIES = [
    "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3-8b", "llama-3-70b", "llama-3.1-8b", "llama-3.1-70b",
    "llama-3.1-405b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.3-70b", "llama-4-scout", "llama-4-maverick",
    "deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "deepseek-r1", "deepseek-v4-flash", "deepseek-v4-pro",
    "mixtral-8x7b", "mixtral-8x22b", "gpt-oss-20b", "gpt-oss-120b", "qwen2.5-7b", "qwen2.5-72b", "qwen3-8b",
    "qwen3-32b", "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-coder-480b-a35b", "glm-4.5", "glm-5", "kimi-k2",
    "minimax-m2", "mistral-small-3-24b", "mistral-large-2", "mistral-nemo-12b", "gemma-3-27b", "phi-4",
    "codellama-34b", "tinyllama-1.1b", "olmoe-1b-7b",
]  # fmt: skip


@pytest.mark.parametrize("ident", FAMILIES)
def test_the_catalog_holds_the_models_that_were_promised(ident: str):
    assert ident in ids("models")


def test_there_are_many():
    assert len(MODELS) >= 85


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.id)
def test_a_model_is_sourced_and_refers_to_what_exists(model: Model):
    assert {"default", "licence"} <= set(model.sources)
    assert all(source.source and source.date for source in model.sources.values())
    assert model.licence in ids("licences")
    formats = {model.native_format, model.native_kv_format, model.encoder_format}
    formats |= {edition.format for edition in model.editions.values()}
    for said in (model.format_by_part, *(edition.format_by_part for edition in model.editions.values())):
        formats |= {name for entry in said.values() for name in ([entry] if isinstance(entry, str) else entry)}
    assert formats <= set(ids("formats"))
    assert model.release_date is None or re.match(r"20[12]\d", model.release_date)


@pytest.mark.parametrize("model", [m for m in MODELS if m.params_total], ids=lambda m: m.id)
def test_published_counts_say_where_they_were_published(model: Model):
    assert "params_total" in model.sources
    assert model.params_active is None or "params_active" in model.sources


def test_no_name_means_two_models():
    owner: dict[str, str] = {}
    for model in MODELS:
        for name in (model.id, model.name, *model.aliases):
            for key in {name.lower(), name.lower().rsplit("/", 1)[-1]}:
                key = key.replace("_", "-").replace(" ", "-")
                assert owner.setdefault(key, model.id) == model.id, name


def test_numbers_from_memory_say_so():
    for model in MODELS:
        for source in model.sources.values():
            if "memory" in source.source or "not read" in source.source:
                assert source.evidence is Evidence.ASSUMED, (model.id, source)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("deepseek-v3", "deepseek-v3-0324"),
        ("qwen2.5-7b", "qwen2.5-3b"),
        ("minimax-m2.5", "minimax-m2.7"),
        ("kimi-k2", "kimi-k2.5"),
    ],
)
def test_members_of_a_family_may_differ_in_licence(one: str, other: str):
    by_id = {m.id: m for m in MODELS}
    assert by_id[one].licence != by_id[other].licence


def test_every_licence_and_format_loads_with_a_source():
    for record in (*load_all(Licence, "licences"), *load_all(NumberFormat, "formats")):
        assert record.sources["default"].source
