"""Speculative decoding: who guesses the next tokens. Whether a guess was right is the sampler's affair."""
