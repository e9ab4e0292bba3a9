"""The dashboard: ``streamlit run app.py``, or ``make app``."""

import streamlit as st

from envelope.dashboard.server.start import SCRIPT, lifespan

app = st.App(SCRIPT, lifespan=lifespan)
