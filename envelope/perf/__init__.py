"""The time, memory and power of one engine step, from the work of a model and the constants of a device."""
