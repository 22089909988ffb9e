"""The one model runner for every device, and the sampler."""
