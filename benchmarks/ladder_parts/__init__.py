"""What `bucket_ladders.py` is made of."""
