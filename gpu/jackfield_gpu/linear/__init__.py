"""Products with weights that are held in 8 or 4 bits."""
