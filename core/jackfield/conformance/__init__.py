"""The part of the conformance kit that needs the core: a whole model on the platform, token by token."""
