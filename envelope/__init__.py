"""Which deployment of which language model fits, how fast it is, what it costs and what fails first."""

__version__ = "0.1.0"
