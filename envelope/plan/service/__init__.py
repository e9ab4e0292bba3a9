"""What users get: the simulated service of a case, its level and its downtime."""
