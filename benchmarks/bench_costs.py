"""Time of 4,096 draws for ten candidates with everything that a scenario brings: python benchmarks/bench_costs.py."""

import time

from envelope.money import AnnualUsage, HostedTokens, OwnedAsset
from envelope.money.model import build
from envelope.money.uncertainty import DRAWS, uncertainty
from envelope.spec.economics import Economics

CANDIDATES, LIMIT_S = 10, 3.0


def usage(number: int) -> AnnualUsage:
    """Return one of ten different deployments, half of them with a hosted API beside their machines."""
    price = {"low": 2.5e5, "mode": 3e5, "high": 4e5}
    hosted = HostedTokens(api="api", kind="output", tokens=2e9, usd_per_mtok={"low": 5.0, "high": 15.0})
    node = OwnedAsset(id=f"node-{number}", count=1 + number, unit_price_usd=price, devices_per_unit=8, max_w=10_200)
    return AnnualUsage(
        owned=(node,),
        hosted=(hosted,) if number % 2 else (),
        it_kwh=40_000.0 * (1 + number), requests=5e6, input_tokens=2e10, output_tokens=2e9, solved_tasks=4e6, seats=500,
    )  # fmt: skip


def main() -> None:
    """Draw once to load everything, then time the draws."""
    models = {f"c{i}": build(Economics(horizon_months=60, site="colocation"), usage(i)) for i in range(CANDIDATES)}
    uncertainty(models, draws=16)
    start = time.perf_counter()
    found = uncertainty(models, draws=DRAWS)
    elapsed_s = time.perf_counter() - start
    print(f"{DRAWS} draws × {CANDIDATES} candidates, {len(found.uncertain_inputs)} uncertain inputs: {elapsed_s:.2f} s")
    print(f"limit {LIMIT_S:g} s: {'kept' if elapsed_s < LIMIT_S else 'missed'}")


if __name__ == "__main__":
    main()
