"""Measurements that need no other program; `jackfield bench` runs them."""
