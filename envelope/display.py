"""How results show themselves: frames, charts, terminal and notebook.

Rooms that compute know nothing of drawing. Results carry these methods; who draws is told to this module by the
package itself (``envelope/__init__.py``), and is loaded when something is drawn.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from envelope.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


class Artist(Protocol):
    """What a module that draws results offers."""

    def records(self, result: Any) -> Iterable[Mapping[str, Any]]:
        """Return a result as flat records, one for each row of its frame."""
        ...

    def chart(self, result: Any, **options: Any) -> Any:
        """Return a result as a chart."""
        ...

    def text(self, result: Any) -> Any:
        """Return a result as something that rich can print."""
        ...

    def html(self, result: Any) -> str:
        """Return a result as a small table in HTML."""
        ...


_artist: list[Callable[[], Artist]] = []


def draw_with(load: Callable[[], Artist]) -> None:
    """Say who draws; ``load`` is called when something is drawn for the first time."""
    _artist[:] = [load]


class Displayed:
    """A result that analysts can hold, plot and look at."""

    def to_frame(self) -> "pd.DataFrame":
        """Return the result as a pandas frame with one row for each thing compared.

        Raises ``MissingExtraError`` without pandas.
        """
        if find_spec("pandas") is None:
            raise MissingExtraError("pandas", "frames")
        import pandas as pd

        return pd.DataFrame.from_records([dict(record) for record in _artist[0]().records(self)])

    def plot(self, **options: Any) -> Any:
        """Return the result as an Altair chart; ``options`` are those of the kind of result.

        Raises ``MissingExtraError`` without Altair.
        """
        if find_spec("altair") is None:
            raise MissingExtraError("altair", "report")
        return _artist[0]().chart(self, **options)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        return _artist[0]().text(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return _artist[0]().html(self)
