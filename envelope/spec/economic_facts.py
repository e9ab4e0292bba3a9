"""The catalog of money, and whether the names and numbers of a scenario's money go with it."""

from collections.abc import Iterator
from functools import cache

from envelope.errors import Problem, unknown_name
from envelope.spec.bounds import out_of_bounds
from envelope.spec.economics import PRICE_PREFIXES, EconomicFacts, Economics
from envelope.spec.folders import generation
from envelope.spec.load import load_all
from envelope.spec.ranges import Spread


@cache
def _facts(_generation: int) -> EconomicFacts:
    records = load_all(EconomicFacts, "economics")
    return EconomicFacts(
        id="all",
        name="all facts about money",
        sources=records[0].sources,
        defaults={name: default for record in records for name, default in record.defaults.items()},
        items=tuple(item for record in records for item in record.items),
        regions={region: names for record in records for region, names in record.regions.items()},
    )


def facts() -> EconomicFacts:
    """Return the defaults, items and regions of all files of the catalog together."""
    return _facts(generation())


def economics_problems(economics: Economics, file: str, at: str = "economics") -> Iterator[Problem]:
    """Yield what is wrong with the names and numbers of a scenario's money, which stands ``at`` a path of ``file``."""
    known = facts()
    items = {item.id for item in (*known.items, *economics.extra)}
    general = {name for names in known.regions.values() for name in names}
    named = [name for name in economics.inputs if not name.startswith(PRICE_PREFIXES)]
    fields = type(economics).model_fields
    for path, names, options in (
        ("region", [economics.region], set(known.regions)),
        ("include", economics.include, items),
        ("skip", economics.skip, items),
        ("inputs", named, {*known.defaults, *general}),
    ):
        for name in names:
            if name not in options:
                yield from unknown_name(file, _joined(at, path), name, options, "economics").problems
    every = {*known.defaults, *general, *fields}
    for path, name in _defaults_named(economics):
        if name not in every:
            yield from unknown_name(file, _joined(at, path), name, every, "economics").problems
    yield from (Problem(file, _joined(at, path), None, rule) for path, rule in _impossible(economics))


def _defaults_named(economics: Economics) -> Iterator[tuple[str, str]]:
    """Yield where the scenario's money names a default, and the name."""
    used = [(name, getattr(economics, name)) for name in type(economics).model_fields]
    used += [(f"inputs.{name}", spread) for name, spread in economics.inputs.items()]
    for i, item in enumerate(economics.extra):
        used += [(f"extra[{i}].factors", s) for s in item.factors]
        used += [(f"extra[{i}].divided_by", s) for s in item.divided_by]
    yield from ((path, s.default) for path, s in used if isinstance(s, Spread) and s.default is not None)


def _impossible(economics: Economics) -> Iterator[tuple[str, str]]:
    """Yield the path of each number that cannot be, and why."""
    known = facts()
    units = {name: default.unit for name, default in known.defaults.items()}
    units |= {general: units[own] for names in known.regions.values() for general, own in names.items()}
    fields = {name: getattr(economics, name) for name in type(economics).model_fields}
    given = [(name, name, spread) for name, spread in fields.items() if isinstance(spread, Spread)]
    given += [(f"inputs.{name}", name, spread) for name, spread in economics.inputs.items()]
    for path, name, spread in given:
        wrong = out_of_bounds(name, spread, units.get(name))
        if wrong is not None:
            yield path, wrong
    rates = {f"usd_per_currency.{code}": spread for code, spread in economics.usd_per_currency.items()}
    rates |= {f"inputs.{name}": spread for name, spread in economics.inputs.items() if name == "eur_usd"}
    for path, spread in rates.items():
        if len(set(spread.numbers)) > 1 or any(x <= 0 for x in spread.numbers):
            yield path, "must be one positive number: exchange rates have no range"


def _joined(at: str, path: str) -> str:
    return f"{at}.{path}" if at and path else at or path
