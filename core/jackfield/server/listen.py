"""The socket: taken before anything slow begins, so that a busy port is known at once."""

from __future__ import annotations

import errno
import socket

_BACKLOG = 2048


class AddressError(RuntimeError):
    """We cannot listen where we were told to."""


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises AddressError that says what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise AddressError(f"Wanted to listen on host {host!r}: {error.strerror}. Choose with --host.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(_advice(host, port, error)) from error
    listener.setblocking(False)
    return listener


def _advice(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another process. Stop that one or choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} may not be taken by this user. Choose one above 1023 with --port."
    return f"Wanted to listen on {host}:{port}: {error.strerror}. Choose with --host and --port."
