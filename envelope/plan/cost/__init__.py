"""Costs over the years: study, ranges, break-even, differences between runs."""
