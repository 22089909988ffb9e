"""A Jackfield plugin to start from. Keep this module light: the probe's process imports it."""
