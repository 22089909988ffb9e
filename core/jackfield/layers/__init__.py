"""Layers that models are made of. They live here for every device; a device replaces functions, never modules."""
