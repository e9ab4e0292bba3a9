"""Publishing a validation: the accuracy page, the card of the README and the error bands.

``python -m envelope.validation.publish ROWS …`` scores the given files of measured rows and the shipped facts and
rewrites the three in a checkout of the repository.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from envelope.validation.bands import write_error_bands
from envelope.validation.score import ScoredRow, peer_scores, summarise, totals
from envelope.validation.tables import peer_table, percent, summary_table, table
from envelope.validation.validate import ValidationReport, validate

_ROOT = Path(__file__).resolve().parents[2]
_SERVED = Path(__file__).with_name("served.md")
"""What runs of ``envelope validate --start`` gave: their loads take minutes on a machine of their own."""
_CARD = ("<!-- accuracy-card -->", "<!-- /accuracy-card -->")

_LINES: tuple[tuple[str, str, tuple[str, ...], str, str], ...] = (
    ("Weights on each device (start-up logs)", "startup", ("weights",), "", "median"),
    ("Memory left for the KV cache", "startup", ("kv_memory",), "", "median"),
    ("Tokens that it holds", "startup", ("kv_tokens",), "", "median"),
    ("Sequences of the longest context", "startup", ("max_concurrency",), "", "median"),
    ("Starts or does not start (the mean is the share that is wrong)", "startup", ("fits",), "", "mean"),
    ("Time per output token, datacenter serving", "datacenter", ("tpot",), "", "median"),
    ("Time to first token under load, datacenter serving", "datacenter", ("ttft",), "", "median"),
    ("Request latency, vLLM load tests", "load_test", ("e2e",), "", "mean"),
    ("Inter-token latency, vLLM load tests", "load_test", ("itl",), "", "mean"),
    ("Time to first token, vLLM load tests", "load_test", ("ttft",), "", "mean"),
    ("Saturated throughput (TensorRT-LLM, MLPerf)", "published", ("saturated_throughput",), "", "median"),
    ("Decode on GPUs, Apple, Strix Halo, Spark (llama.cpp class)", "published/local", ("decode_rate",), "", "median"),
    ("Prefill on the same", "published/local", ("prefill_rate",), "", "median"),
    ("Decode on processors (constants from the same two)", "published", ("decode_rate",), "cpu", "median"),
    ("Prefill on processors (constants from the same two)", "published", ("prefill_rate",), "cpu", "median"),
    ("GPU watts (ML.ENERGY; four constants from the same rows)", "published/mlenergy", ("power_gpu",), "", "median"),
    ("Joules per token (ML.ENERGY)", "published/mlenergy", ("energy_per_token",), "", "median"),
)
"""Lines of the card: text, collection prefix, quantities, device class ('' is any), the figure shown first."""

_WHAT = """\
Predictions are made from the setting that a row states (device, model, formats, parallelism, lengths, load), not from
what it measured. Loads are simulated with the generator that the source used. Where a source leaves a
setting open, the assumption stands in `envelope/validation/datasets.yaml` with its reason. Constants come from measured
operators and from physics; overheads per step, sequence and request are fitted per engine, never per model or row."""

_FITTED = """\
- Processors: kernel rates by format and thread count were taken from the same two processors (Ryzen 7950X, M2 Max) that
  most processor rows were measured on; those errors are in-sample.
- llama.cpp class on GPUs, Apple, Strix Halo and Spark: one set of constants per device family and engine from published
  rates of this kind, never per model; partly in-sample.
- GPU watts: four constants over the ML.ENERGY rows. MI300X: one set over dstack's and MLPerf's rows.
- Engines: step and sequence overheads of vLLM up to 0.12 (half of ML.ENERGY's inter-token latencies; its experts in
  block-scaled FP8 from the H100 rows of one model) and up to 0.6 (dstack); sequence overhead and admission lag of later
  vLLM (load tests, half of the InferenceX rows); admission lag of SGLang and TensorRT-LLM, launch cost per layer of all
  three, and SGLang's time per request (half of the InferenceX rows); what sending tokens costs TensorRT-LLM (its
  offline tables); the Dynamo front end (its rows).
- llama.cpp before flash attention: bytes per score and its share of the peak (single cards of 2024).
- Start-up logs: vLLM's bytes per logit and token, its context and communicator memory and its captured graphs come from
  about 60 of the logs of one laboratory and card (H100, vLLM 0.15 to 0.19); everything else of memory – how blocks,
  windows, states and fractions count – was read from the engines' sources. 89 of the logs, most of them of other cards,
  were collected afterwards.
- Settings that runs do not state but are known or inferred to have used (draft tokens, polling intervals, KV formats,
  mean lengths of MLPerf's data sets) stand in `envelope/validation/datasets.yaml`, inferred ones from the rows
  themselves; they hold for whole configurations, never for a row.
- Where a load test gives ITL, TTFT and E2E but not the tokens that its client counted, that count is derived from the
  three by their definition; such an ITL tests the same as E2E − TTFT.
- Everything else – GEMM, attention, experts and communication on NVIDIA's datacenter GPUs – comes from measured
  operators, not from these rows."""

_LIMITS = """\
- The same hardware differs between MLPerf submitters by 3.6 % (offline) and 8 % (server) in the median, up to 31 % and
  70 %; software versions move results by up to 1.7 times on the same GPU. No model can be better than that.
- Inter-token latencies of the load tests are per token as the client counted them (it tokenises answers again); the
  engine's own count is the same for prediction and measurement.
- Overloaded load tests (failed requests, queues without bound) are a family of their own: their times measure the
  client's patience. Small errors of the step time become large ones of the queue near saturation.
- Runs of InferenceX whose first tokens wait for seconds at every load (old SGLang NVFP4 images) and runs through the
  Dynamo front end with cold starts are not explained by the model.
- MLPerf rows state no lengths; means of the data sets are partly assumed."""


def card(rows: Sequence[ScoredRow]) -> str:
    """Return the accuracy card as a Markdown table."""
    header = ("prediction", "rows", "covered", "median error", "mean error", "bias")
    lines: list[tuple[str, ...]] = []
    for text, prefix, quantities, device_class, first in _LINES:
        members = [
            r
            for r in rows
            if r.collection.startswith(prefix)
            and r.quantity in quantities
            and not r.overloaded
            and device_class in ("", r.device_class)
        ]
        if not members:
            continue
        found = summarise([m.changed(device_class="", architecture="", quantity="") for m in members])
        one = found[0]
        median, mean = percent(one.median_ape_frac), percent(one.mean_ape_frac)
        shown = (f"**{median}**", mean) if first == "median" else (median, f"**{mean}**")
        lines.append((text, str(one.n), percent(one.coverage_frac), *shown, percent(one.bias_frac, signed=True)))
    return table(header, lines)


def accuracy_page(all_rows: Sequence[ScoredRow], facts: ValidationReport, names: Iterable[str], date: str) -> str:
    """Return ``docs/accuracy.md``: the card, all tables, other predictors, limits, and the shipped facts."""
    peers = peer_table(peer_scores(all_rows))
    parts = [
        "# How true the predictions are",
        f"Generated on {date} by `python -m envelope.validation.publish` from {', '.join(names)} "
        f"({len(all_rows):,} measured values) and from the {len(facts.rows)} facts that ship with the package. "
        "Error is |predicted/measured − 1|. A row without a prediction counts against coverage.",
        card(all_rows),
        _WHAT,
        "## What was fitted on rows of these kinds",
        _FITTED,
        "## Where it ends",
        _LIMITS,
        _SERVED.read_text(encoding="utf-8").strip(),
        "## By quantity and family of rows",
        summary_table(totals(all_rows)),
        "## By quantity, device class and architecture",
        summary_table(summarise(all_rows)),
        "## Other predictors on the same rows",
        peers,
        "## Shipped facts",
        "What `envelope validate` scores anywhere, without further files: a balanced selection of the rows above.",
        summary_table(facts.summary),
    ]
    return "\n\n".join(parts) + "\n"


def publish(files: Sequence[Path], root: Path, date: str) -> list[Path]:
    """Score ``files`` and the shipped facts; rewrite page, card and bands under ``root``; return what was written.

    Start-up logs ship whole, so they count with the files.
    """
    rows = [row for file in files for row in validate(file).rows]
    facts = validate()
    scored = [*rows, *(r for r in facts.rows if r.collection.startswith("startup"))] if rows else list(facts.rows)
    page = root / "docs" / "accuracy.md"
    page.write_text(accuracy_page(scored, facts, [f"`{f.name}`" for f in files], date), encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(with_card(readme.read_text(encoding="utf-8"), card(scored)), encoding="utf-8")
    bands = write_error_bands(scored, root / "envelope" / "catalog" / "error_bands", date)
    return [page, readme, *bands]


def with_card(text: str, card_text: str) -> str:
    """Return the README with the text between the card's markers replaced; unchanged without them."""
    start, end = (text.find(mark) for mark in _CARD)
    if start < 0 or end < start:
        return text
    more = "Tables, limits and other predictors on the same rows: [docs/accuracy.md](docs/accuracy.md)."
    return f"{text[: start + len(_CARD[0])]}\n{card_text}\n\n{more}\n{text[end:]}"


if __name__ == "__main__":
    for written in publish([Path(a) for a in sys.argv[1:]], _ROOT, datetime.now(UTC).date().isoformat()):
        print(written)
