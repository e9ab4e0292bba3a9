"""Workers of a Dask cluster, local or elsewhere, as a ``concurrent.futures.Executor``."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from envelope.errors import EnvelopeError, MissingExtraError
from envelope.plan.sweep.crew import Crew

CONNECT_S = 60.0
"""Time for which a scheduler that does not answer is tried, as long as a restart takes."""


def require_dask() -> None:
    """Raise ``MissingExtraError`` if Dask is not installed."""
    if find_spec("distributed") is None:
        raise MissingExtraError("distributed", "cluster")


@contextmanager
def dask_crew(address: str, workers: int) -> Iterator[Crew]:
    """Give the workers of the scheduler at an address (``host:port``), or of a cluster started here if it is empty.

    Raises ``EnvelopeError`` if the scheduler cannot be reached.
    """
    distributed: Any = import_module("distributed")

    # What is lost is done again and told in the progress; its stack traces only frighten.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    cluster = None
    if not address:
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    try:
        with _client(distributed.Client, cluster or f"tcp://{address}") as client:
            scheduler = _scheduler(client)
            executor = client.get_executor(pure=False)
            yield Crew(
                executor,
                workers=lambda: max(
                    len(client.scheduler_info(n_workers=-1)["workers"]) if client.status == "running" else 1, 1
                ),
                # A scheduler that was restarted knows nothing of the tasks that its forerunner had.
                lost=lambda: client.status != "running" or _scheduler(client) != scheduler,
            )
    finally:
        if cluster is not None:
            cluster.close(timeout=10)


def _client(kind: Any, where: Any) -> Any:
    try:
        return kind(where, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        words = f"the Dask scheduler at {where} does not answer ({error}); finished rows are safe: run the same again"
        raise EnvelopeError(words) from None


def _scheduler(client: Any) -> str:
    return str(client.scheduler_info(n_workers=0).get("id", ""))
