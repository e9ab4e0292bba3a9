"""Total cost of ownership: cost lines, cash flows, net present value, uncertainty.

Everything is in nominal US dollars before value-added tax. A cost is positive in a cost line; in a cash flow an
outflow is negative. Month 0 is the start of service, when things are bought; running costs of a month are paid
at its end.
"""

from envelope.money.cashflow import irr, npv, payback_months
from envelope.money.evaluate import evaluate
from envelope.money.result import Comparison, LineResult, TcoResult, compare
from envelope.money.tariff import bill_usd, billed_kinds, hosted_tokens
from envelope.money.usage import AnnualUsage, HostedTokens, OwnedAsset, RentedDevices

__all__ = [
    "AnnualUsage",
    "Comparison",
    "HostedTokens",
    "LineResult",
    "OwnedAsset",
    "RentedDevices",
    "TcoResult",
    "bill_usd",
    "billed_kinds",
    "compare",
    "evaluate",
    "hosted_tokens",
    "irr",
    "npv",
    "payback_months",
]
