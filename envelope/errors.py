"""The exceptions of the package and the exit codes that the command line gives for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of the command line."""

    OK = 0
    CRASH = 1
    BAD_INPUT = 2
    INFEASIBLE = 3
    PARTIAL = 4


class EnvelopeError(Exception):
    """Root of every exception that the package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: where it stands, what it is, what is allowed and what to do."""

    file: str
    """File, or the command-line option or argument, that holds the value."""
    path: str
    """Path inside the file, such as ``deployment.pools[0].device``; empty for the whole file."""
    value: object
    """The offending value."""
    rule: str
    """What is wrong with it, or what is allowed."""
    remedy: str = ""
    """What the user can do about it."""

    def __str__(self) -> str:
        """Return ``file: path: value rule; remedy``."""
        where = f"{self.file}: {self.path}:" if self.path else f"{self.file}:"
        shown = "" if self.value is None else f" {_short(self.value)}"
        tail = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{shown} {self.rule}{tail}"


class InputError(EnvelopeError):
    """The user's input is wrong; carries every problem found, not only the first. Exit code 2."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class MissingExtraError(EnvelopeError):
    """An optional dependency is not installed; the message gives the pip command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'deployment-envelope[{extra}]'")


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the known names closest to ``name``, best first (at most ``limit``)."""
    from rapidfuzz import fuzz, process, utils

    found = process.extract(
        name, list(known), scorer=fuzz.WRatio, processor=utils.default_process, limit=limit, score_cutoff=50
    )
    return [str(match[0]) for match in found]


def unknown_name(file: str, path: str, value: str, known: Iterable[str], kind: str) -> InputError:
    """Return the error for a name that no data file has, with the nearest of the known ones.

    ``kind`` is the noun of the listing command, such as ``models`` in ``envelope models``; empty if there is none.
    """
    names = list(known)
    close = names if len(names) <= 3 else nearest(value, names)
    hints = [f"nearest {', '.join(repr(c) for c in close)}"] if close else []
    hints += [f"list: envelope {kind}"] if kind else []
    return InputError(Problem(file, path, value, "unknown", "; ".join(hints)))


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
