"""Which processor this machine has."""

import platform
import sys
from pathlib import Path


def processor_name(root: Path = Path("/")) -> str:
    """Return the processor's marketing name, or what the platform knows."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or sys.platform


def processor_flags(root: Path = Path("/")) -> frozenset[str]:
    """Return the instruction-set flags of the first core (x86 ``flags``, ARM ``Features``)."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
