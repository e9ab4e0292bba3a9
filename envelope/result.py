"""What public functions return."""

from typing import Any

from envelope.display import Displayed
from envelope.provenance import Frozen


class Result(Displayed, Frozen):
    """A record that a public function returns."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self.model_dump(mode="json")
