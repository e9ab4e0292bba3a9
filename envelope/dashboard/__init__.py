"""The Streamlit dashboard: a face on the functions in ``plan``; computes nothing itself."""
