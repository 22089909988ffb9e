"""The frontend owns text: it tokenises, detokenises, finds stop strings, and gathers answers for users."""
