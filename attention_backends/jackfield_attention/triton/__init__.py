"""Paged attention in Triton, for GPUs of several vendors. Needs the extra: pip install "jackfield-attention[triton]".

Import `.backend`, which holds `TritonAttention`; nothing outside of this package imports triton for it.
"""
