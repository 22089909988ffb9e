"""Mixtures of experts in one call: tokens sorted by expert, products over all experts in one launch."""
