"""The cheapest deployment of a grid that keeps every rule."""
