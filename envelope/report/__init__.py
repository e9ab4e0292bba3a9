"""Turning results into tables, charts and documents; computes nothing."""
