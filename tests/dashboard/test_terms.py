"""Help on terms is what the docstrings say."""

import pytest

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
from envelope.dashboard.terms import HOMES, term
from envelope.docstrings import field_docstrings
from envelope.spec.workload import Slo


@pytest.mark.parametrize("name", list(HOMES))
def test_every_term_has_a_sentence(name: str) -> None:
    said = term(name)
    assert said.startswith(f"{name} – ")
    assert len(said) > len(name) + 20
    # A caption of the page, where marked code would be too faint.
    assert "`" not in said


def test_the_words_are_those_of_the_field() -> None:
    assert field_docstrings(Slo)["ttft_s"] in term("TTFT").replace("`", "``")
