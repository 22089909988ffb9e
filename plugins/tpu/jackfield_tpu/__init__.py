"""The TPU plugin of Jackfield."""
