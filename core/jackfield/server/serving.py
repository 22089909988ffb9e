"""What the routes share: the options, where the server is in its life, and the frontend once there is one."""

from __future__ import annotations

from typing import Literal

from jackfield.config.json_fields import ConfigError
from jackfield.frontend.frontend import Frontend
from jackfield.lora_request import LoRARequest
from jackfield.server.errors import ApiError, ShuttingDownError
from jackfield.server.metrics import Metrics
from jackfield.server.options import ServerOptions

Phase = Literal["starting", "ready", "draining"]


class Serving:
    """One server. `opened` makes it ready; `drain` ends that."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self.adapters = _adapters(options.lora_modules)
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

    def check_model(self, name: str | None) -> LoRARequest | None:
        """The adapter that a request names as its model; None: it asks for the model itself, or names nothing.

        Raises ApiError 404 for a name that is neither.
        """
        if name is None or name == self.model_name:
            return None
        if name not in self.adapters:
            served = ", ".join(map(repr, (self.model_name, *self.adapters)))
            message = f"The model {name!r} is not served here; {served} {'are' if self.adapters else 'is'}."
            raise ApiError(404, message, param="model", code="model_not_found")
        return self.adapters[name]


def _adapters(modules: tuple[str, ...]) -> dict[str, LoRARequest]:
    """Adapters by name, numbered from 1 on; ConfigError for what is not name=folder, and for a name given twice."""
    adapters: dict[str, LoRARequest] = {}
    for number, module in enumerate(modules, start=1):
        name, _, path = module.partition("=")
        if not name or not path:
            raise ConfigError(f"lora_modules takes name=folder; got {module!r}")
        if name in adapters:
            raise ConfigError(f"lora_modules names two adapters {name!r}")
        adapters[name] = LoRARequest(name, number, path)
    return adapters
