"""Greenhouse gases of the company's own machines."""

import numpy as np
from numpy.typing import NDArray

from envelope.money.acquire import by_month, in_service
from envelope.money.inputs import Values
from envelope.money.model import Model

Floats = NDArray[np.float64]


def carbon_kg_by_month(model: Model, values: Values) -> Floats:
    """Return kilograms of CO2 equivalent by month, [draws, H + 1].

    Electricity: kWh × PUE × grid factor. Making a server: ``embodied_gpu_node`` for each eight devices, when
    bought; cards and laptops are not counted, for want of data.
    """
    horizon = model.horizon_months
    grid = (values["grid"] / 1000.0)[:, None]
    servers = by_month([u.it_kwh for u in model.years], horizon) / 12.0
    seats = by_month([u.seat_kwh for u in model.years], horizon) / 12.0
    total: Floats = (
        (servers[None, :] * values["pue"][:, None] + seats[None, :]) * grid * values["demand_factor"][:, None]
    )
    for fleet in model.owned:
        if fleet.asset.kind == "server":
            bought = np.maximum(0.0, np.diff(in_service(fleet, horizon), append=0.0))
            nodes = bought * fleet.asset.devices_per_unit / 8.0
            total = total + nodes[None, :] * values["embodied_gpu_node"][:, None]
    return total
