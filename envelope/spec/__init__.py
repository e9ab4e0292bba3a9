"""The validated nouns: models, formats, hardware, workloads, deployments, economics, scenarios."""
