"""The ASGI application: routes, and what stands before them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from jackfield.field_error import FieldError
from jackfield.frontend.engine_client import EngineDeadError
from jackfield.frontend.frontend import OverloadedError
from jackfield.frontend.submission import RequestFailedError
from jackfield.server.auth import RequireKey
from jackfield.server.count_responses import CountResponses
from jackfield.server.errors import ApiError, ShuttingDownError, error_response
from jackfield.server.routes_chat import ChatRoute
from jackfield.server.routes_completions import CompletionsRoute
from jackfield.server.routes_state import StateRoutes
from jackfield.server.serving import Serving

_ERRORS = (
    ApiError,
    FieldError,
    OverloadedError,
    EngineDeadError,
    RequestFailedError,
    ShuttingDownError,
    ClientDisconnect,
    HTTPException,
    Exception,
)


def create_app(serving: Serving) -> Starlette:
    """All routes over one `Serving`, which may open its frontend later."""
    paths: list[str] = []
    state = StateRoutes(serving, paths)
    routes = [
        Route("/", state.index, methods=["GET"]),
        Route("/v1/chat/completions", ChatRoute(serving).post, methods=["POST"]),
        Route("/v1/completions", CompletionsRoute(serving).post, methods=["POST"]),
        Route("/v1/models", state.models, methods=["GET"]),
        Route("/health", state.health, methods=["GET"]),
        Route("/ready", state.ready, methods=["GET"]),
        Route("/version", state.version, methods=["GET"]),
        Route("/metrics", state.metrics, methods=["GET"]),
    ]
    paths += [route.path for route in routes]
    middleware = [Middleware(CountResponses, metrics=serving.metrics, paths=frozenset(paths))]
    if serving.options.api_key is not None:
        middleware.append(Middleware(RequireKey, key=serving.options.api_key))
    handlers = dict.fromkeys(_ERRORS, error_response)
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
