"""The verdict: figures of each candidate, exposures, and which one to take."""
