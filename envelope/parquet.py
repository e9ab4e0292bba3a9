"""Tables as Parquet: the only place that opens its library."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from envelope.errors import MissingExtraError


def require_parquet() -> None:
    """Raise ``MissingExtraError`` if tables cannot be written as Parquet."""
    if find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")


class ParquetFile:
    """A Parquet file that takes its rows group by group, each group whole in memory.

    ``types`` gives the columns in their order, each ``bool``, ``int``, ``float`` or ``str``; without it they are those
    of the first group, and a file without a group is not made.
    """

    def __init__(self, path: Path, types: Mapping[str, type] | None = None) -> None:
        require_parquet()
        self._path = path
        self._writer: Any = None
        self._schema: Any = None if types is None else _schema(types)
        if self._schema is not None:
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_columns(self, columns: Mapping[str, Any]) -> None:
        """Write a group of rows given as arrays; NaN becomes an empty cell."""
        import pyarrow

        self._add(pyarrow.table({name: pyarrow.array(c, from_pandas=True) for name, c in columns.items()}))

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a group of rows given as records; ``None`` is an empty cell."""
        import pyarrow

        self._add(pyarrow.Table.from_pylist(list(rows), schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, table: Any) -> None:
        if self._writer is None:
            self._schema = table.schema
            self._open()
        self._writer.write_table(table)

    def _open(self) -> None:
        from pyarrow import parquet

        self._writer = parquet.ParquetWriter(self._path, self._schema)


def _schema(types: Mapping[str, type]) -> Any:
    import pyarrow

    known = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    return pyarrow.schema([(name, known[kind]) for name, kind in types.items()])
