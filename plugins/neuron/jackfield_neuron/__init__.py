"""The Neuron plugin of Jackfield. `probe` is asked first and imports no torch; `plugin` holds the hooks."""
