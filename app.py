"""The dashboard: ``streamlit run app.py``, or ``make app``."""

from envelope.dashboard.main import main

main()
