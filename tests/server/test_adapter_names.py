"""A request names an adapter as its model; what the server was not given is a 404."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from server_kit import Go, Servers

from jackfield.config.json_fields import ConfigError
from jackfield.engine.messages import EngineOutput, EngineOutputs
from jackfield.lora_request import LoRARequest
from jackfield.server.adapter_check import check_adapters
from jackfield.server.options import ServerOptions
from jackfield.server.serving import Serving

OPTIONS = ServerOptions(lora_modules=("poet=/adapters/poet", "clerk=/adapters/clerk"))
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def adapted(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Servers whose engines serve adapters."""
    opened = Serving.opened

    def with_adapters(self: Serving, frontend: Any) -> None:
        frontend._client.model = msgspec.structs.replace(frontend.model, serves_lora=True)
        frontend._builder.model = frontend._client.model
        opened(self, frontend)

    monkeypatch.setattr(Serving, "opened", with_adapters)
    return servers


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", {"prompt": "Hello"}), ("/v1/chat/completions", CHAT)])
def test_the_model_field_chooses_the_adapter(adapted: Servers, go: Go, path: str, body: dict[str, Any]) -> None:
    async def test() -> None:
        async with adapted.inside(OPTIONS) as server:
            for name in ("clerk", "scripted", None):
                answer = await server.post(path, body | ({} if name is None else {"model": name}))
                assert answer.status_code == 200, answer.text
                assert answer.json()["model"] == (name or "scripted")
            loras = [request.lora for request in server.engine.requests]
            assert loras == [LoRARequest("clerk", 2, "/adapters/clerk"), None, None]

    go(test())


def test_models_lists_the_adapters(adapted: Servers, go: Go) -> None:
    async def test() -> None:
        async with adapted.inside(OPTIONS) as server:
            models = (await server.http.get("/v1/models")).json()["data"]
            assert [(one["id"], one.get("parent")) for one in models] == [
                ("scripted", None),
                ("poet", "scripted"),
                ("clerk", "scripted"),
            ]

    go(test())


def test_an_unknown_adapter_is_a_404_that_names_those_that_are_here(adapted: Servers, go: Go) -> None:
    async def test() -> None:
        async with adapted.inside(OPTIONS) as server:
            answer = await server.post("/v1/completions", {"model": "baker", "prompt": "Hello"})
            assert answer.status_code == 404
            error = answer.json()["error"]
            assert error["message"] == "The model 'baker' is not served here; 'scripted', 'poet', 'clerk' are."
            assert (error["param"], error["code"]) == ("model", "model_not_found")
            assert not server.engine.requests

    go(test())


def test_adapters_are_tried_before_the_server_is_ready(adapted: Servers, go: Go) -> None:
    async def test() -> None:
        async with adapted.inside(OPTIONS) as server:
            await check_adapters(server.serving.frontend, server.serving.adapters, server.serving.model_name)
            tried = [(request.lora.lora_name, request.sampling.max_tokens) for request in server.engine.requests]
            assert tried == [("poet", 1), ("clerk", 1)]

    go(test())


def test_an_adapter_that_fails_is_named(adapted: Servers, go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with adapted.inside(OPTIONS) as server:
            failed = EngineOutputs(others=[EngineOutput("adapter-poet#0", [], finish_reason="error", error="rank 99")])
            monkeypatch.setattr(server.engine, "_step", lambda: server.engine._running.clear() or failed)
            with pytest.raises(ConfigError, match=r"'poet' cannot be served\. .*rank 99"):
                await check_adapters(server.serving.frontend, server.serving.adapters, server.serving.model_name)

    go(test())


def test_adapters_need_an_engine_that_serves_them(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(OPTIONS) as server:
            with pytest.raises(ConfigError, match="start the engine with --enable-lora"):
                await check_adapters(server.serving.frontend, server.serving.adapters, server.serving.model_name)

    go(test())


def test_an_adapter_may_not_have_the_model_s_own_name(adapted: Servers, go: Go) -> None:
    """Whoever names it would get the plain model."""

    async def test() -> None:
        async with adapted.inside(ServerOptions(lora_modules=("poet=/adapters/poet", "scripted=/a"))) as server:
            with pytest.raises(ConfigError, match=r"'scripted' is the model's own name; .*served_model_name"):
                await check_adapters(server.serving.frontend, server.serving.adapters, server.serving.model_name)
            assert not server.engine.requests

    go(test())


@pytest.mark.parametrize(
    ("modules", "message"),
    [(("poet",), "takes name=folder; got 'poet'"), (("poet=a", "poet=b"), "two adapters 'poet'")],
)
def test_what_names_no_adapter_is_refused(modules: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Serving(ServerOptions(lora_modules=modules))
