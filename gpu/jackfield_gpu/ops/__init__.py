"""Elementwise functions and reductions over rows in Triton, and the table that offers them."""
