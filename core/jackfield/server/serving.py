"""What the routes share: the options, where the server is in its life, and the frontend once there is one."""

from __future__ import annotations

from typing import Literal

from jackfield.frontend.frontend import Frontend
from jackfield.server.errors import ApiError, ShuttingDownError
from jackfield.server.metrics import Metrics
from jackfield.server.options import ServerOptions

Phase = Literal["starting", "ready", "draining"]


class Serving:
    """One server. `opened` makes it ready; `drain` ends that."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self.phase: Phase = "starting"
        self.frontend: Frontend | None = None

    def opened(self, frontend: Frontend) -> None:
        """The engine runs: requests may come."""
        self.frontend = frontend
        if self.phase == "starting":
            self.phase = "ready"

    def drain(self) -> None:
        """No new requests from now on."""
        self.phase = "draining"

    @property
    def model_name(self) -> str:
        """The name under which the model is served."""
        own = self.frontend.model.name if self.frontend is not None else ""
        return self.options.served_model_name or own

    def accepting(self) -> Frontend:
        """The frontend. Raises what a client is told while no requests may come."""
        if self.phase == "draining":
            raise ShuttingDownError("The server is shutting down.")
        if self.frontend is None:
            raise ApiError(503, "The server is starting.", code="starting", headers={"Retry-After": "5"})
        if self.frontend.dead is not None:
            raise self.frontend.dead
        return self.frontend

    def check_model(self, name: str | None) -> None:
        """Raises ApiError 404 for a model that is not here; a request that names none gets ours."""
        if name is not None and name != self.model_name:
            message = f"The model {name!r} is not served here; {self.model_name!r} is."
            raise ApiError(404, message, param="model", code="model_not_found")
