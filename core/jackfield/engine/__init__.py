"""The engine: scheduler, KV blocks, the step loop, and the process that it runs in."""
