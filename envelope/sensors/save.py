"""Writing a probed record into the user's data folder, whole or not at all."""

import os
import tempfile
from pathlib import Path

from pydantic import BaseModel

from envelope.errors import InputError, Problem
from envelope.perf import cpu_probe
from envelope.spec import folders, load, yaml_text
from envelope.spec.hardware import HardwareProfile


def save_record(record: BaseModel, kind: str, ident: str, *, folder: Path | None = None, force: bool = False) -> Path:
    """Write ``record`` as ``<folder>/<kind>/<ident>.yaml`` and return the path.

    ``folder`` defaults to the user's data folder. A file that a person wrote is not overwritten without ``force``;
    one that an earlier probe wrote is.
    """
    target = (folder or folders.writable_data_dir()) / kind / f"{ident}.yaml"
    if target.exists() and not force and not _is_probed(target):
        remedy = "choose another --name, or --force"
        raise InputError(Problem(str(target), "", None, "exists and was not written by a probe", remedy))
    text = yaml_text.to_yaml(record)
    # Read back what will be written: a profile that does not load must never reach the folder.
    load.validate(type(record), yaml_text.parse_yaml(text, str(target)), str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise InputError(Problem(str(target), "", None, f"cannot be written: {error.strerror}")) from None
    folders.forget()
    return target


def require_writable(kind: str, *, folder: Path | None = None) -> None:
    """Raise ``InputError`` if no record of this kind can be written: better before minutes of measuring than after."""
    target = (folder or folders.writable_data_dir()) / kind
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        remedy = "choose another --data-dir, or --no-save"
        raise InputError(Problem(str(target), "", None, f"cannot be written: {error.strerror}", remedy)) from None


def _is_probed(path: Path) -> bool:
    try:
        data = yaml_text.read_yaml(path)
    except InputError:
        return False
    if not isinstance(data, dict):
        return False
    return bool(data.get("conditions")) or str(data.get("note", "")).startswith("probed")


def load_probed(path: Path) -> HardwareProfile:
    """Return a profile that a probe wrote; raises ``InputError`` if it is broken, incomplete or interrupted."""
    profile = load.load_file(HardwareProfile, path)
    if profile.conditions is None:
        raise InputError(
            Problem(str(path), "conditions", None, "is required in a probed profile", "run: envelope probe")
        )
    if not profile.conditions.complete:
        raise InputError(Problem(str(path), "conditions.complete", False, "the probe was interrupted", "run it again"))
    broken = [
        Problem(
            str(path), f"efficiency[{index}].constants.{name}", curve.constants.get(name), rule, "run: envelope probe"
        )
        for index, curve in enumerate(profile.efficiency)
        if curve.op == "table"
        for name, rule in cpu_probe.problems(curve)
    ]
    if broken:
        raise InputError(broken)
    return profile
