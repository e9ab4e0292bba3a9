"""Models from a checkpoint's own metadata: ``config.json`` or a GGUF header, parsed and never executed."""
