"""Rows on disk as they are finished: an append-only file that survives interruption, power loss and a full disk.

Each line is a row as JSON, a tab and the CRC-32 of the JSON. A batch of rows is one write followed by ``fsync``. A
torn line at the end is cut off when the file is opened again; a damaged one elsewhere counts as missing.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from envelope.errors import EnvelopeError, InputError, Problem
from envelope.plan.sweep.row import Row

_ROWS = "journal.jsonl"
_STUDY = "study.json"
_NONE, _DONE, _FAILED = 0, 1, 2


class Journal:
    """The rows of one study in one folder."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.path = folder / _ROWS
        self._offset = np.full(runs, -1, dtype=np.int64)
        self._status = np.zeros(runs, dtype=np.uint8)
        self._end = self._scan()

    @property
    def done(self) -> int:
        """Rows that are on disk, failed ones included."""
        return int(np.count_nonzero(self._status))

    @property
    def failed(self) -> int:
        """Rows on disk that record an error."""
        return int(np.count_nonzero(self._status == _FAILED))

    def missing(self, *, failed_too: bool) -> Iterator[int]:
        """Yield the numbers of the runs that have no row, and of those that failed if they are to run again."""
        for start in range(0, len(self._status), 65_536):
            part = self._status[start : start + 65_536]
            yield from (start + np.flatnonzero((part == _NONE) | (failed_too & (part == _FAILED)))).tolist()

    def rows(self) -> Iterator[Row]:
        """Yield the rows on disk in the order of their runs."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for offset in self._offset:
                if offset >= 0:
                    file.seek(int(offset))
                    yield Row.model_validate(_content(file.readline()))

    def append(self, rows: Sequence[Row]) -> None:
        """Put rows on disk; those that are there already are left out, unless they had failed.

        Raises ``EnvelopeError`` if the disk takes no more; the rows before stay as they are.
        """
        new = [row for row in rows if self._status[row.run] != _DONE]
        lines = [_line(row) for row in new]
        try:
            if not self.path.exists():
                self.path.touch()
                _sync_folder(self.path.parent)
            with self.path.open("r+b") as file:
                self._write(file, b"".join(lines))
        except OSError as error:
            words = f"{self.path}: {error.strerror}; {self.done:,} rows are safe: make room and run the same again"
            raise EnvelopeError(words) from None
        for row, line in zip(new, lines, strict=True):
            self._note(row.run, row.status, self._end)
            self._end += len(line)

    def _write(self, file: BinaryIO, data: bytes) -> None:
        file.truncate(self._end)
        file.seek(self._end)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            # The kernel may have taken a part of it: leave no half of a batch behind.
            os.ftruncate(file.fileno(), self._end)
            raise

    def _scan(self) -> int:
        """Note where each row stands and return where the last whole line ends."""
        end = position = 0
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            for line in file:
                found = _content(line)
                if found is not None and 0 <= found["run"] < len(self._status):
                    self._note(found["run"], found["status"], position)
                position += len(line)
                if line.endswith(b"\n"):
                    end = position
        return end

    def _note(self, run: int, status: str, offset: int) -> None:
        if self._status[run] != _DONE:
            self._status[run] = _DONE if status == "done" else _FAILED
            self._offset[run] = offset


def _line(row: Row) -> bytes:
    text = row.model_dump_json().encode()
    return b"%s\t%08x\n" % (text, zlib.crc32(text))


def _content(line: bytes) -> Any:
    """Return what a line says, or ``None`` if it is damaged or torn."""
    text, _, check = line.rstrip(b"\n").rpartition(b"\t")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)


def check_study(folder: Path, study: dict[str, Any]) -> None:
    """Write down what a folder's rows belong to, or raise ``InputError`` if it holds those of something else."""
    path = folder / _STUDY
    held = read_study(folder) if path.exists() else None
    if held is None:
        write_whole(path, json.dumps(study, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return
    differ = sorted(key for key in {*held, *study} if held.get(key) != json.loads(json.dumps(study)).get(key))
    if differ:
        rule = f"holds the rows of another study ({', '.join(differ)} differ)"
        raise InputError(Problem("--out", "", str(folder), rule, "name another folder, or remove this one"))


def read_study(folder: Path) -> dict[str, Any]:
    """Return what the rows of a results folder belong to.

    Raises ``InputError`` if it is no such folder.
    """
    path = folder / _STUDY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(Problem("results", "", str(folder), f"is no folder of sweep results: {error}")) from None
    if not isinstance(found, dict):
        raise InputError(Problem("results", "", str(path), "is damaged"))
    return found


def write_whole(path: Path, text: str) -> None:
    """Write a file so that after a power loss it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
