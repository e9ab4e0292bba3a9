"""A catalog file for a model from its checkpoint: read, checked against what the file itself counts, and saved."""

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envelope.errors import InputError, Problem, unknown_name
from envelope.perf.params import param_counts, weight_bytes
from envelope.provenance import Evidence, Frozen, Source
from envelope.sensors.save import save_record
from envelope.spec import folders, load, yaml_text
from envelope.spec.checkpoint.architecture import Traits
from envelope.spec.checkpoint.config_json import Imported, Naming, ident_of, model_from_config, slug
from envelope.spec.checkpoint.fields import read_json
from envelope.spec.checkpoint.gguf_header import GgufHeader, read_gguf
from envelope.spec.checkpoint.gguf_model import model_from_gguf, tensor_bytes
from envelope.spec.checkpoint.tensors import traits_beside
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

_YES = {"yes": True, "true": True, "no": False, "false": False}


class ModelImport(Frozen):
    """A model read from a checkpoint, with what its file counts and what a person should look at."""

    model: Model
    model_type: str
    """``model_type`` of the configuration, or the architecture that the GGUF header names."""
    params_total: int
    """Parameters computed from the imported architecture, without encoders and multi-token prediction."""
    params_active: float
    """Parameters that one token passes."""
    params_in_file: int | None
    """Parameters counted from the tensors' shapes, where the file holds them."""
    weights_bytes: float
    """Bytes of the weights in the format that the file ships."""
    bytes_in_file: float | None
    """Bytes of the tensors in the file, where it says so."""
    assumptions: tuple[str, ...]
    """What was taken for granted."""
    unread: tuple[str, ...]
    """Fields of the file that nothing understood."""
    path: Path | None = None
    """File that was written; ``None`` if none was."""


def import_model(
    path: Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    developer: str = "",
    like: str | None = None,
    weights: str | None = None,
    traits: Sequence[str] = (),
    save: bool = True,
    force: bool = False,
) -> ModelImport:
    """Read a ``config.json`` or a ``.gguf`` file and write the model into the user's data folder.

    ``traits`` are ``name=value`` pairs for what the file leaves open, ``like`` names a known architecture whose
    conventions hold. Beside a configuration, the index or header of its safetensors decides what it leaves open.
    Raises ``InputError`` with everything that is wrong, unsupported or undecided; nothing is written then.
    """
    path = path / "config.json" if path.is_dir() else path
    gguf = read_gguf(path) if _is_gguf(path) else None
    data = gguf.metadata if gguf is not None else read_json(path)
    naming = Naming(
        id=slug(name) if name else _ident(path, data, gguf),
        licence=_licence(licence, path, data),
        developer=developer,
        like=like,
        weights=_format(weights),
        traits=_traits(traits),
    )
    source = Source(
        source=f"imported from {path.name}", date=datetime.date.today().isoformat(), evidence=Evidence.DATASHEET
    )
    if gguf is not None:
        found = model_from_gguf(gguf, str(path), naming, source=source)
    else:
        shown, beside = traits_beside(path)
        found = model_from_config(_with_quantisation(data, path), str(path), naming, source=source, tensors=shown)
        if beside:
            found = Imported(found.model, found.model_type, (f"biases and norms as {beside} shows", *found.assumptions),
                             found.unread)  # fmt: skip
    result = _result(found, gguf)
    if not save:
        return result
    return result.changed(path=_save(found.model, force))


def _is_gguf(path: Path) -> bool:
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def _ident(path: Path, data: Mapping[str, Any], gguf: GgufHeader | None) -> str:
    if gguf is None:
        return ident_of(path, data)
    named = data.get("general.name")
    return slug(named) if isinstance(named, str) and slug(named) != "imported-model" else slug(path.stem)


def _licence(given: str | None, path: Path, data: Mapping[str, Any]) -> str:
    """Return the licence's id: given, or named by the header or the model card beside; else ``licence-not-read``."""
    known = load.ids("licences")
    if given is not None:
        if given not in known:
            raise unknown_name("command line", "--licence", given, known, "licences")
        return given
    said = data.get("general.license")
    card = path.with_name("README.md")
    if said is None and path.suffix == ".json" and card.is_file() and card.stat().st_size < 2**20:
        match = re.search(r"^license:\s*(\S+)\s*$", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        said = match[1] if match else None
    return said if isinstance(said, str) and said in known else "licence-not-read"


def _format(given: str | None) -> str | None:
    if given is None:
        return None
    return load.load(NumberFormat, "formats", given, file="command line", path="--weights").id


def _traits(pairs: Sequence[str]) -> Traits:
    values: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or name not in Traits.model_fields:
            allowed = ", ".join(Traits.model_fields)
            problems.append(Problem("command line", "--trait", pair, "must be NAME=VALUE", f"names: {allowed}"))
            continue
        values[name] = int(text) if text.isdigit() and len(text) < 6 else _YES.get(text.lower(), text)
    if problems:
        raise InputError(problems)
    try:
        return Traits(**values)
    except ValidationError as error:
        raise InputError(
            [Problem("command line", f"--trait {e['loc'][0]}", e["input"], str(e["msg"])) for e in error.errors()]
        ) from None


def _with_quantisation(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the configuration with the quantisation that NVIDIA's tools write into a file beside it."""
    # Where the configurations of several models lie in one folder, both names begin with the model's.
    own = (f"{path.stem}.hf_quant.json", f"{path.stem.removesuffix('_config')}_hf_quant_config.json")
    beside = next((f for name in ("hf_quant_config.json", *own) if (f := path.with_name(name)).is_file()), None)
    if "quantization_config" in data or beside is None:
        return data
    return data | {"quantization_config": read_json(beside).get("quantization")}


def _result(found: Imported, gguf: GgufHeader | None) -> ModelImport:
    counts = param_counts(found.model)
    formats = {f.id: f for f in load.load_all(NumberFormat, "formats")}
    return ModelImport(
        model=found.model,
        model_type=found.model_type,
        params_total=counts.total,
        params_active=counts.active,
        params_in_file=found.params_in_file,
        weights_bytes=sum(weight_bytes(found.model, "native", formats).values()),
        bytes_in_file=tensor_bytes(gguf) if gguf is not None else None,
        assumptions=found.assumptions,
        unread=found.unread,
    )


def _save(model: Model, force: bool) -> Path:
    target = folders.writable_data_dir() / "models" / f"{model.id}.yaml"
    if not force:
        if target.exists() and not _is_imported(target):
            raise InputError(Problem(str(target), "", None, "exists and was not imported", "use --name, or --force"))
        if not target.exists() and model.id in load.ids("models"):
            rule, remedy = "is a model of the catalog already", "use --name, or --force to come before it"
            raise InputError(Problem("command line", "--name", model.id, rule, remedy))
    return save_record(model, "models", model.id, force=True)


def _is_imported(path: Path) -> bool:
    data = yaml_text.read_yaml(path)
    sources = data.get("sources") if isinstance(data, dict) else None
    default = sources.get("default") if isinstance(sources, dict) else None
    return isinstance(default, dict) and str(default.get("source", "")).startswith("imported from ")
