"""Sensors that measure this machine, or an endpoint, and write what they found as data files."""
