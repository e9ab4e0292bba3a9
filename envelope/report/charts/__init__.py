"""Charts: one Vega-Lite specification each, drawn by the dashboard, and as pictures for pages that stand alone."""
