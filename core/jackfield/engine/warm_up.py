"""Which sizes an engine captures, and capturing them before the first request, with a bar."""

from __future__ import annotations

from jackfield.config.engine_config import EngineConfig
from jackfield.config.json_fields import ConfigError
from jackfield.progress import progress_bar
from jackfield.runner.model_runner import ModelRunner
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.buckets.trace import TraceWriter
from jackfield_platforms.platform import Platform


def bucket_plan(config: EngineConfig, platform: Platform, limits: Limits) -> BucketPlan:
    """The platform's plan or the user's, strict if asked, writing steps down if asked. ConfigError names the file."""
    plan = platform.buckets(limits) if config.buckets is None else _load(config, limits)
    if config.forbid_compile:
        plan = plan.strict()
    return plan if config.record_steps is None else TraceWriter(plan, config.record_steps)


def warm_up(runner: ModelRunner, *, shown: bool) -> dict[str, str | None]:
    """Capture what is planned; the bar is drawn only where somebody can see it. Without a plan any size is captured,
    where the platform can: returns by program why it is not, or None.
    """
    if not runner.num_planned:
        return runner.capture_any_size()
    with progress_bar("Capturing", runner.num_planned, shown=shown) as advance:
        runner.warm_up(lambda what: advance(1, f"Capturing {what}"))
    return {}


def _load(config: EngineConfig, limits: Limits) -> BucketPlan:
    assert config.buckets is not None
    try:
        plan = StaticBuckets.from_json(config.buckets.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"buckets: {config.buckets} is no plan of static sizes: {error}") from error
    if plan.sizes.block_size != limits.block_size:
        raise ConfigError(
            f"buckets: {config.buckets} is for blocks of {plan.sizes.block_size} tokens; this engine's have "
            f"{limits.block_size}. Make it anew or set --block-size."
        )
    return plan
