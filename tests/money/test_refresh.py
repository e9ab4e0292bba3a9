"""Tariffs against the package genai-prices, which is the catalog's source and computes prices on its own."""

import json
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from envelope import cli
from envelope.errors import InputError
from envelope.money import bill_usd, hosted_tokens
from envelope.money.refresh import changes, refreshed, save_tariffs
from envelope.spec.folders import set_data_dirs
from envelope.spec.hosted import HostedModel, TariffLine
from envelope.spec.load import load, load_all, path_of

DAY = date(2026, 11, 23)
SNAPSHOT = "0.2.3"

try:
    INSTALLED = version("genai-prices")
except PackageNotFoundError:
    INSTALLED = ""

pytestmark = pytest.mark.skipif(INSTALLED != SNAPSHOT, reason=f"compares with genai-prices {SNAPSHOT}")
FROM_PACKAGE = [m for m in load_all(HostedModel, "hosted") if "genai-prices" in m.source_of("tariff").source]

CASES = [(m, batch) for m in FROM_PACKAGE for batch in (False, True) if m.has_batch or not batch]


def package_usd(model: HostedModel, fresh: int, cached: int, written: int, output: int, batch: bool) -> float:
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=fresh + cached + written,  # the package counts cached and written tokens as input too
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )
    price = calc_price(
        usage,
        model_ref=model.api_model,
        provider_id={"xai": "x-ai"}.get(model.provider, model.provider),
        genai_request_timestamp=datetime(2026, 11, 22, 12, tzinfo=UTC),  # a Sunday, without peak hours
        price_context={"processing": "batch"} if batch else None,
    )
    return float(price.total_price)


def our_usd(model: HostedModel, fresh: int, cached: int, written: int, output: int, batch: bool) -> float:
    counts = {"input": fresh, "cached_input": cached, "cache_write": written, "output": output}
    total = fresh + cached + written
    processing = "batch" if batch else "standard"
    lines = {kind: model.line(kind, day=DAY, input_tokens=total, processing=processing).usd_per_mtok for kind in counts}
    return sum(lines[kind] * count / 1e6 for kind, count in counts.items())


@pytest.mark.parametrize(("model", "batch"), CASES, ids=lambda x: x.id if isinstance(x, HostedModel) else ("standard", "batch")[x])  # fmt: skip
@pytest.mark.parametrize("request_", [(1000, 0, 0, 500), (2000, 30_000, 0, 700), (500_000, 9_000, 0, 20)])
def test_a_request_costs_what_the_package_says(model, request_, batch):
    assert our_usd(model, *request_, batch) == pytest.approx(package_usd(model, *request_, batch), rel=1e-9)


@pytest.mark.parametrize("model", [m for m in FROM_PACKAGE if any(x.kind == "cache_write" for x in m.tariff)], ids=lambda m: m.id)  # fmt: skip
def test_writing_to_the_cache_costs_what_the_package_says(model):
    request = (1000, 2000, 5000, 100, False)
    assert our_usd(model, *request) == pytest.approx(package_usd(model, *request), rel=1e-9)


def test_the_snapshot_needs_no_refresh():
    assert [m.id for m in refreshed(FROM_PACKAGE, DAY)] == []


def test_a_tariff_that_has_moved_is_taken_anew_with_its_origin():
    model = next(m for m in FROM_PACKAGE if m.id == "openai-gpt-6.1-sol")
    old = model.model_copy(
        update={"tariff": (TariffLine(kind="input", usd_per_mtok=9.0), TariffLine(kind="output", usd_per_mtok=9.0))}
    )
    (new,) = refreshed([old], DAY)
    assert set(new.tariff) == set(model.tariff)
    assert new.source_of("tariff").note.startswith("refreshed; before: genai-prices")
    assert new.source_of("latency") == model.source_of("latency")


def test_announced_prices_become_today_s_when_their_day_has_come():
    model = next(m for m in FROM_PACKAGE if m.id == "google-gemini-3.8-flash")
    (later,) = refreshed([model], date(2027, 2, 1))
    assert all(line.from_date is None for line in later.tariff)
    usage = hosted_tokens(later, {"output": 1e6}, start="2027-02")
    assert bill_usd(usage) == pytest.approx(7.5)


def test_refreshed_tariffs_go_to_a_folder_of_the_user_and_come_first(tmp_path):
    (model,) = [m for m in FROM_PACKAGE if m.id == "openai-gpt-5"]
    dearer = tuple(x.model_copy(update={"usd_per_mtok": 7.0}) for x in model.tariff if x.kind == "output")
    old = model.model_copy(update={"tariff": (*(x for x in model.tariff if x.kind != "output"), *dearer)})
    (fresh,) = refreshed([old], DAY)
    assert {(c.line, c.before_usd_per_mtok, c.after_usd_per_mtok) for c in changes(old, fresh)} >= {
        ("output", 7.0, 10.0)
    }
    (path,) = save_tariffs([fresh], tmp_path)
    assert path == tmp_path / "hosted" / "openai-gpt-5.yaml"
    set_data_dirs((tmp_path,))
    try:
        found = load(HostedModel, "hosted", "openai-gpt-5", file="test", path="")
    finally:
        set_data_dirs(())
    assert found == fresh
    assert "refreshed" in found.source_of("tariff").note


def test_the_packaged_catalog_is_never_written_to():
    packaged = path_of("hosted", "openai-gpt-5")
    before = packaged.read_bytes()
    with pytest.raises(InputError, match="belongs to the packaged catalog"):
        save_tariffs([load(HostedModel, "hosted", "openai-gpt-5", file="test", path="")], packaged.parents[1])
    assert packaged.read_bytes() == before


def test_the_command_lists_what_has_moved_and_writes_it(capsys, tmp_path):
    # on that day the prices announced for December do not hold yet, and those of 2024 models did
    assert cli.main(["prices", "refresh", "--today", "2025-06-01", "--out", str(tmp_path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {Path(p).stem for p in data["written"]} == {c["id"] for c in data["changes"]}
    assert data["changes"]
    assert cli.main(["prices", "refresh", "--today", DAY.isoformat(), "--dry-run"]) == 0
    assert f"0 of {len(load_all(HostedModel, 'hosted'))} hosted models" in capsys.readouterr().out
