"""The server of the dashboard: what it does at its start, and the script that it runs for each session."""
