"""What each way to a behaviour costs a year over a range of loads."""

from collections.abc import Sequence

import numpy as np

from envelope.plan.deployment.tuning import Method, TuningBench
from envelope.provenance import Frozen
from envelope.units import DAYS_PER_YEAR

_POINTS = 41


class TuningPoint(Frozen):
    """Yearly cost of one method at one load."""

    method: Method
    requests_per_day: float
    usd_per_year: float


def tuning_curve(bench: TuningBench, loads: Sequence[float] | None = None) -> tuple[TuningPoint, ...]:
    """Return the yearly cost of every method that may be trained or prompted, at each load in requests a day.

    By default the loads span a hundredth to a hundred times the load that was asked for. Cost is what is fixed plus
    what each request costs at the concurrency of the query; methods that the changes rule out are left out.
    """
    asked = bench.query.requests_per_day
    at = loads if loads is not None else [float(v) for v in np.geomspace(asked / 100, asked * 100, _POINTS)]
    return tuple(
        TuningPoint(
            method=row.method,
            requests_per_day=load,
            usd_per_year=row.fixed_usd_per_year + row.serving_usd_per_request * load * DAYS_PER_YEAR,
        )
        for row in bench.rows
        if row.fits_weights
        for load in at
    )
