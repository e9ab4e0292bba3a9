"""Reading request logs of gateways, engines and agents, describing them and fitting a synthetic twin."""

from envelope.logs.describe import TraceDescription, describe
from envelope.logs.detect import FORMATS, detect, read_log
from envelope.logs.twin import fit_twin
from envelope.logs.usage import Usage, workload_of_usage
from envelope.serving.trace import Trace, requests_of

__all__ = [
    "FORMATS",
    "Trace",
    "TraceDescription",
    "Usage",
    "describe",
    "detect",
    "fit_twin",
    "read_log",
    "requests_of",
    "workload_of_usage",
]
