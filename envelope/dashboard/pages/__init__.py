"""The pages: one module each, with ``page(view)``."""
