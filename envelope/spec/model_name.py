"""Foreign names of models: repositories, tags and file names that carry a number format or an edition."""

import re
from collections.abc import Mapping
from functools import cache

from envelope.errors import unknown_name
from envelope.spec.load import ids, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

_EDITIONS = ("instruct", "chat", "it", "hf", "base", "gguf", "mlx", "preview", "latest", "text")
"""Words at the end of a name that do not change the architecture."""


def model_and_format(name: str, *, file: str, path: str) -> tuple[str, str | None]:
    """Return (model id, format id or ``None``) for a foreign name such as ``unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL``.

    The catalog's own ids and aliases come first; then the number format at the end of the name is taken off, then
    words of an edition. Spelling counts only by letters, digits and dots. ``file`` and ``path`` say where the
    name was written; raises ``InputError`` with the nearest names if nothing fits.

    >>> model_and_format("LLaMA v3.1 8B Instruct Q4_K_M", file="doctest", path="")
    ('llama-3.1-8b', 'q4_k_m')
    >>> model_and_format("openai/gpt-oss-120b", file="doctest", path="")
    ('gpt-oss-120b', None)
    """
    models, formats = _spellings()
    last = re.sub(r"\.gguf$", "", name.strip().rsplit("/", 1)[-1], flags=re.IGNORECASE)
    rest, number_format = _without_format(last, formats)
    for text in (name, last, *_without_editions(rest)):
        if (found := models.get(_squashed(text))) is not None:
            return found, number_format
    raise unknown_name(file, path, name, ids("models"), "models")


def _squashed(text: str) -> str:
    """Return letters, digits and dots alone; a ``v`` before a version number is dropped.

    >>> _squashed("LLaMA v3.1-8B")
    'llama3.18b'
    """
    text = re.sub(r"(?<![a-z0-9])v(?=\d)", "", text.lower())
    return re.sub(r"[^a-z0-9.]", "", text)


def _without_format(text: str, formats: Mapping[str, str]) -> tuple[str, str | None]:
    """Split the longest number format off the end of ``text``."""
    whole = re.sub(r"[\s\-](dynamic|block)$", "", text, flags=re.IGNORECASE)
    for cut in re.finditer(r"[\s\-_:.]", whole):
        found = formats.get(_squashed(whole[cut.end() :]))
        if found is not None:
            return whole[: cut.start()], found
    return text, None


def _without_editions(text: str) -> list[str]:
    """Return ``text`` and what is left as words of an edition are taken off its end, one by one."""
    found = [text]
    while (cut := re.search(r"[\s\-_:.]([a-z]+)$", found[-1], re.IGNORECASE)) and cut[1].lower() in _EDITIONS:
        found.append(found[-1][: cut.start()])
    return found


def _spellings() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return squashed spelling → id, of models and of weight formats."""
    return _spellings_of(tuple(ids("models")), tuple(ids("formats")))


@cache
def _spellings_of(_models: tuple[str, ...], _formats: tuple[str, ...]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    models: dict[str, str] = {}
    for model in load_all(Model, "models"):
        for name in (model.id, model.name, *model.aliases):
            models.setdefault(_squashed(name), model.id)
            models.setdefault(_squashed(name.rsplit("/", 1)[-1]), model.id)
    formats: dict[str, str] = {}
    for number_format in load_all(NumberFormat, "formats"):
        if number_format.weights:
            for name in (number_format.id, *number_format.aliases):
                formats.setdefault(_squashed(name), number_format.id)
    return models, formats
