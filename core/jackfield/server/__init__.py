"""The HTTP server: OpenAI's API before a frontend. Starlette routes, msgspec bodies, server-sent events."""
