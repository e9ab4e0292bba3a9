"""Measured facts with sources, and the code that scores predictions against them."""

from envelope.validation.score import PeerScore, ScoredRow, SummaryRow
from envelope.validation.validate import ValidationReport, shipped_facts, validate

__all__ = ["PeerScore", "ScoredRow", "SummaryRow", "ValidationReport", "shipped_facts", "validate"]
