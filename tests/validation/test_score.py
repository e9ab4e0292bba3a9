"""Errors, summaries and coverage against hand computation; the keys that scripts rely on."""

import json
from xml.etree import ElementTree

import pytest

from envelope.validation import validate
from envelope.validation.bands import error_bands, write_error_bands
from envelope.validation.output import write_report
from envelope.validation.publish import card, with_card
from envelope.validation.row_files import load_rows
from envelope.validation.score import ScoredRow, ape, peer_scores, summarise, totals, worst
from envelope.validation.validate import FACTS, score_row, shipped_facts

SUMMARY_KEYS = {
    "quantity", "device_class", "architecture", "n", "coverage_frac", "median_ape_frac", "mean_ape_frac",
    "p90_ape_frac", "bias_frac",
}  # fmt: skip


def scored(measured, predicted, **changes):
    error = None if predicted is None else ape(predicted, measured)
    base = {
        "id": "r", "collection": "published/x", "quantity": "tpot", "device_class": "cpu", "architecture": "dense",
        "device": "d", "model": "m", "engine": "e", "unit": "ms", "measured": measured, "predicted": predicted,
        "ape_frac": error, "bias_frac": None if predicted is None else predicted / measured - 1,
    }  # fmt: skip
    return ScoredRow.model_validate(base | changes)


def test_summary_equals_hand_computation():
    rows = [scored(100.0, p) for p in (110.0, 80.0, 100.0, 150.0)] + [scored(100.0, None)]
    (found,) = summarise(rows)
    assert (found.n, found.coverage_frac) == (5, 0.8)
    assert found.median_ape_frac == pytest.approx(0.15)
    assert found.mean_ape_frac == pytest.approx(0.2)
    assert found.p90_ape_frac == pytest.approx(0.41)
    assert found.bias_frac == pytest.approx(0.05)


def test_a_class_without_any_prediction_has_zero_coverage_and_no_errors():
    (found,) = summarise([scored(1.0, None)])
    assert found.coverage_frac == 0
    assert found.median_ape_frac is None


def test_rows_are_grouped_by_quantity_class_and_architecture():
    rows = [scored(1.0, 1.0), scored(1.0, 1.0, architecture="moe"), scored(1.0, 1.0, quantity="ttft")]
    assert [(r.quantity, r.architecture) for r in summarise(rows)] == [
        ("tpot", "dense"),
        ("tpot", "moe"),
        ("ttft", "dense"),
    ]


def test_overloaded_load_tests_are_a_family_of_their_own():
    rows = [scored(1.0, 1.0, collection="load_test/T"), scored(1.0, 9.0, collection="load_test/S", overloaded=True)]
    assert {t.device_class: t.n for t in totals(rows)} == {"load_test": 1, "load_test/overloaded": 1}


def test_peers_are_compared_on_their_own_rows_only():
    rows = [scored(1.0, 1.1, peers={"other": 0.5}), scored(1.0, 3.0)]
    (found,) = peer_scores(rows)
    assert (found.peer, found.n) == ("other", 1)
    assert found.median_ape_frac == 0.5
    assert found.our_median_ape_frac == pytest.approx(0.1)


def test_worst_rows_count_too_little_like_too_much():
    rows = [scored(1.0, 2.0, id="double"), scored(1.0, 0.1, id="tenth"), scored(1.0, 1.2, id="near")]
    assert [r.id for r in worst(rows, 2)] == ["tenth", "double"]


def test_an_unmappable_row_counts_against_coverage_with_its_reason(tmp_path):
    record = {
        "id": "u", "group": "local", "kind": "decode_rate", "load": "single_stream", "unit": "output tok/s", "value": 10.0,
        "device": "Steam Deck", "model": "Llama 3 8B", "engine": "llama.cpp", "weights_dtype": "q4_k_m", "output_len": 128,
    }  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"id": "v", "device": "RTX 3090"}) + "\n")
    report = validate(path)
    assert report.uncovered == (("u", "device 'Steam Deck' is not in the catalog"),)
    assert {s.device_class: s.coverage_frac for s in report.summary} == {"unknown": 0.0, "consumer_gpu": 1.0}


def test_report_has_the_keys_that_scripts_rely_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text((FACTS / "published-nim.jsonl").read_text())
    found = validate(path).to_dict()
    assert set(found["summary"][0]) == SUMMARY_KEYS
    assert {"id", "quantity", "measured", "predicted", "ape_frac", "bound"} <= set(found["rows"][0])
    assert json.loads(json.dumps(found)) == found


def test_progress_reaches_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text((FACTS / "published-nim.jsonl").read_text())
    seen = []
    validate(path, progress=lambda share, text: seen.append(share))
    assert seen[-1] == 1.0


def test_written_report_holds_tables_rows_and_well_formed_charts(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text((FACTS / "published-nim.jsonl").read_text())
    report = validate(path)
    files = write_report(report, tmp_path / "out")
    names = {f.name for f in files}
    assert {"report.json", "report.md", "rows.csv", "summary.csv"} <= names
    for chart in (f for f in files if f.suffix == ".svg"):
        points = ElementTree.parse(chart).getroot().findall(".//{http://www.w3.org/2000/svg}title")
        assert points
    assert (tmp_path / "out" / "rows.csv").read_text().count("\n") == len(report.rows) + 1


def test_error_bands_need_enough_rows_and_hold_their_count(tmp_path):
    many = [scored(1.0, 1.1, device_class="cpu") for _ in range(9)] + [scored(1.0, 2.0, device_class="edge")]
    found = {b.id: b for b in error_bands(many, "2026-11")}
    assert found["decode-cpu-dense"].n == 9
    assert found["decode-any-any"].n == 10
    assert "decode-edge-dense" not in found
    assert found["decode-cpu-dense"].median_ape_frac == pytest.approx(0.1)
    assert len(write_error_bands(many, tmp_path, "2026-11")) == len(found)


def test_card_replaces_only_what_stands_between_its_markers():
    text = "before\n<!-- accuracy-card -->\nold\n<!-- /accuracy-card -->\nafter\n"
    new = with_card(text, card([scored(1.0, 1.1, collection="datacenter/inferencex")]))
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert "old" not in new
    assert "10 %" in new
    assert with_card("no markers", "x") == "no markers"


def test_shipped_facts_are_sourced_dated_and_understood():
    facts = shipped_facts()
    assert len(facts.rows) >= 300
    assert facts.rejected == ()
    assert all(len(r.source) > 3 for r in facts.rows)
    assert len({r.quantity for r in facts.rows}) >= 12
    assert len({r.id for r in facts.rows}) == len(facts.rows)


def test_nearly_every_shipped_fact_maps_and_predicts():
    rows = [r for r in shipped_facts().rows if r.load not in {"replay", "open_loop"}][::4]
    found = [score_row(r) for r in rows]
    assert sum(r.ape_frac is not None for r in found) >= 0.95 * len(found)
    assert all(r.bound in {"compute", "memory", "communication", "overhead"} for r in found if r.ape_frac is not None)


def test_facts_are_read_from_their_own_format_unchanged():
    path = next(iter(sorted(FACTS.glob("*.jsonl"))))
    again = load_rows(path)
    assert [r.id for r in again.rows] == [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_shipped_error_bands_load_and_are_sourced():
    from envelope.spec.error_band import ErrorBand
    from envelope.spec.load import load_all

    bands = load_all(ErrorBand, "error_bands")
    assert {"decode", "prefill", "ttft", "throughput", "power", "energy"} <= {b.quantity for b in bands}
    assert all(b.median_ape_frac <= b.p90_ape_frac for b in bands)


def test_a_class_without_band_takes_the_next_wider_one():
    from envelope.spec.error_band import find_band

    assert find_band("decode", "datacenter_gpu", "moe").id == "decode-datacenter-gpu-moe"
    assert find_band("decode", "quantum", "moe").id == "decode-any-moe"
    assert find_band("energy", "quantum", "moe").quantity == "energy"
