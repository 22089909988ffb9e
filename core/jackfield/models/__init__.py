"""Model families, written on the shared layers of `jackfield.layers`."""
