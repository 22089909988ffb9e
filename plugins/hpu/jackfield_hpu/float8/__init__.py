"""Linear layers in 8-bit floats, as the vendor's Neural Compressor (INC) makes them: measured, then quantised."""
