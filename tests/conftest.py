"""One compiled kernel for all test processes: made before they start, it is only loaded by each."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Compile the kernel once, in the process that hands out the tests."""
    from envelope.serving.compiled import available, is_ready
    from envelope.serving.warm import prepare

    hands_out = not hasattr(config, "workerinput") and bool(getattr(config.option, "numprocesses", None))
    if hands_out and available() and not is_ready():
        prepare()
