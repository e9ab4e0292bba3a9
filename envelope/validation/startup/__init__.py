"""Start-up logs of engines: what they say stands in memory, beside what the memory model says."""
