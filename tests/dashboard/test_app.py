"""The dashboard draws without an exception, and its figures are those of the Python functions."""

import warnings

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.report import text

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")

from envelope.dashboard.server.start import SCRIPT


def test_the_page_shows_the_verdict_and_cost_of_a_chosen_scenario() -> None:
    from streamlit.testing.v1 import AppTest

    with warnings.catch_warnings():
        # Streamlit's own use of deprecated names in its dependencies is not ours to mend.
        warnings.simplefilter("ignore")
        app = AppTest.from_file(str(SCRIPT), default_timeout=120).run()
        assert not app.exception
        app.sidebar.selectbox[0].select("field-devices").run()
    assert not app.exception
    expected = compare(load_scenario("field-devices"))
    best = expected.candidate(expected.recommended or "")
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Cost over 3 years"] == text.money(best.cost_npv)
    assert shown["SLO met"] == text.percent(best.slo_attainment_frac, 1)
    assert any(best.name in element.value for element in app.success)
