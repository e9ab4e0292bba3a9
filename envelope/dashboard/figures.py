"""Figures as the reader's own locale writes them."""

from dataclasses import dataclass

from envelope.report import text

_DECIMAL_COMMA = {
    "be", "bg", "cs", "da", "de", "el", "es", "et", "fi", "fr", "hr", "hu", "id", "is", "it", "lt", "lv", "nb", "nl",
    "nn", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "tr", "uk", "vi",
}  # fmt: skip
"""Languages that write 1.234,5 or 1 234,5 (Unicode CLDR 45, common/main, symbols)."""
_SPACE_GROUPS = {"be", "bg", "cs", "et", "fi", "fr", "hu", "lt", "lv", "nb", "nn", "no", "pl", "ru", "sk", "sv", "uk"}
"""Of those, the ones that put a narrow space between thousands."""
_COUNTRY_POINT = {"de-CH", "de-LI", "it-CH", "es-MX", "es-US", "es-PR", "es-GT", "es-HN", "es-NI", "es-PA", "es-PE"}


@dataclass(frozen=True, slots=True)
class Figures:
    """Writes numbers with the separators of a locale such as ``de-DE``."""

    locale: str = "en-US"

    def money(self, usd: float | None) -> str:
        """Return dollars rounded to what a reader can use."""
        return self.localised(text.money(usd))

    def percent(self, frac: float | None, digits: int = 0) -> str:
        """Return a fraction as a percentage."""
        return self.localised(text.percent(frac, digits))

    def seconds(self, value_s: float | None) -> str:
        """Return a duration in the unit that suits it."""
        return self.localised(text.seconds(value_s))

    def count(self, value: float | None) -> str:
        """Return a count with separators between thousands."""
        return self.localised(text.count(value))

    @property
    def separators(self) -> tuple[str, str]:
        """What stands before decimals and what between thousands.

        >>> Figures("de-DE").separators, Figures("de-CH").separators
        ((',', '.'), ('.', ','))
        """
        language = self.locale.split("-")[0].lower()
        if language not in _DECIMAL_COMMA or self.locale in _COUNTRY_POINT:
            return ".", ","
        return ",", "\N{NARROW NO-BREAK SPACE}" if language in _SPACE_GROUPS else "."

    def localised(self, shown: str) -> str:
        """Return an English figure with this locale's separators.

        >>> Figures("de-DE").localised("$1,234.5"), Figures("en-GB").localised("1.5")
        ('$1.234,5', '1.5')
        """
        decimal, thousands = self.separators
        return shown if decimal == "." else shown.translate({ord("."): decimal, ord(","): thousands})


def escaped(sentence: str) -> str:
    """Return a sentence for Streamlit's Markdown, where two dollar signs would begin mathematics."""
    return sentence.replace("$", r"\$")
