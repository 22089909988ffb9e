"""Prometheus metrics, in a registry of the server's own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jackfield.engine.messages import EngineStats

_GAUGES = {
    "running_sequences": ("num_running", "Sequences that the engine runs"),
    "waiting_sequences": ("num_waiting", "Sequences that wait for room"),
    "free_blocks": ("num_free_blocks", "KV blocks that may be taken"),
    "total_blocks": ("num_total_blocks", "KV blocks"),
}
_COUNTERS = {
    "steps": ("num_steps", "Steps of the engine"),
    "preemptions": ("num_preemptions", "Sequences that gave their blocks to others"),
    "prefix_queried_tokens": ("num_prefix_queried_tokens", "Prompt tokens looked up in the prefix cache"),
    "prefix_hit_tokens": ("num_prefix_hit_tokens", "Prompt tokens found in the prefix cache"),
    "prompt_tokens": ("num_prompt_tokens", "Prompt tokens"),
    "generated_tokens": ("num_generated_tokens", "Generated tokens"),
    "spec_decode_num_draft_tokens": ("num_draft_tokens", "Tokens that were drafted and verified"),
    "spec_decode_num_accepted_tokens": ("num_accepted_tokens", "Drafted tokens that the model agreed with"),
    "late_captures": ("num_late_captures", "Sizes that were captured after the warm-up"),
    "late_compilations": ("num_late_compilations", "Programs that the platform compiled after the warm-up"),
}
_BUCKET_COUNTERS = {
    "launches": ("launches", "Launches by the size that they were padded to"),
    "misses": ("misses", "Launches that no planned size held"),
    "real_tokens": ("real_tokens", "Tokens that were asked for"),
    "padded_tokens": ("padded_tokens", "Tokens that ran, padding included"),
}
_FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BETWEEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class _EngineCollector(Collector):
    """Shows the last reading of the engine."""

    def __init__(self) -> None:
        self.stats: EngineStats | None = None

    def collect(self) -> Iterator[Metric]:
        up = self.stats is not None
        yield GaugeMetricFamily("jackfield_engine_up", "1 while the engine is alive", value=float(up))
        if self.stats is None:
            return
        for name, (field, text) in _GAUGES.items():
            yield GaugeMetricFamily(f"jackfield_{name}", text, value=getattr(self.stats, field))
        for name, (field, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"jackfield_{name}", text, value=getattr(self.stats, field))
        for name, (field, text) in _BUCKET_COUNTERS.items():
            family = CounterMetricFamily(f"jackfield_bucket_{name}", text, labels=["bucket"])
            for bucket in self.stats.buckets:
                family.add_metric([bucket.bucket], getattr(bucket, field))
            yield family


class Metrics:
    """What the server counts itself, and what it reads of the engine when asked."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._engine = _EngineCollector()
        self._registry.register(self._engine)
        self._responses = Counter(
            "jackfield_responses", "HTTP responses by path and status", ["path", "status"], registry=self._registry
        )
        self._first = Histogram(
            "jackfield_time_to_first_token_seconds",
            "From a request's arrival to its first token",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=self._registry,
        )
        self._between = Histogram(
            "jackfield_inter_token_seconds",
            "From one token of a sequence to its next",
            buckets=_BETWEEN_SECONDS,
            registry=self._registry,
        )
        self.first = self._first.observe
        self.between = self._between.observe

    def responded(self, path: str, status: int) -> None:
        """Count a response."""
        self._responses.labels(path, str(status)).inc()

    def render(self, stats: EngineStats | None) -> bytes:
        """Prometheus' text form; without the engine's part when it is dead or not there yet."""
        self._engine.stats = stats
        return generate_latest(self._registry)
