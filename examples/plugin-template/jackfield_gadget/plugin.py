"""What the plugin hands over."""

from jackfield_gadget.platform import GadgetPlatform
from jackfield_platforms.hooks import hookimpl


@hookimpl
def platforms():
    """Platforms by name."""
    return {"gadget": GadgetPlatform}
