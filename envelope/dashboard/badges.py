"""How the pages mark what a number rests on."""

from envelope.provenance import Evidence

BADGES = {
    Evidence.MEASURED: "● measured",
    Evidence.FITTED: "◉ fitted",
    Evidence.INTERPOLATED: "◐ interpolated",
    Evidence.DATASHEET: "○ datasheet",
    Evidence.ASSUMED: "△ assumed",
}
MEANING = {
    Evidence.MEASURED: "by a probe on that very device or service",
    Evidence.FITTED: "from measured tables of that device",
    Evidence.INTERPOLATED: "from measurements of neighbours of the same family",
    Evidence.DATASHEET: "the vendor's or provider's own published figure",
    Evidence.ASSUMED: "recalled, derived or judged; nobody has checked it against a source",
}
