"""Thousands of what-ifs: which variants are run, where, and what they say together."""
