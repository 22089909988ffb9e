"""Configuration: frozen values, resolved once."""
