"""One deployment without a scenario: speed, memory, fit, replayed logs, tuning."""
