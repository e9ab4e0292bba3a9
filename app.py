"""The dashboard: ``streamlit run app.py``, or ``make app``."""

from envelope.dashboard.app import main

main()
