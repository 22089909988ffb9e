"""Parts of `benchmarks/peers.py`: other engines beside Jackfield."""
