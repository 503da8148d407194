"""Metrics in Prometheus's format: the queue, the jobs, the requests and the process."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gencompositor_jax.jobs.queue import Queue
from gencompositor_jax.jobs.table import FINISHED, Entry

SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """The metrics of one service; `registry` is what Prometheus reads."""

    def __init__(self, queue: Queue) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU time, open files
        self.registry.register(_Jobs(queue))
        self.finished = Counter(
            "gencompositor_jobs_finished", "Jobs that have ended.", ["state"], registry=self.registry
        )
        self.seconds = Histogram(
            "gencompositor_job_seconds", "From start to end.", registry=self.registry, buckets=SECONDS
        )
        self.wait = Histogram(
            "gencompositor_job_wait_seconds", "In the queue.", registry=self.registry, buckets=SECONDS
        )
        self.upload = Counter("gencompositor_upload_bytes", "Of accepted jobs.", registry=self.registry)
        self.requests = Counter(
            "gencompositor_http_requests", "Responses.", ["method", "route", "status"], registry=self.registry
        )
        for state in FINISHED:
            self.finished.labels(state)

    def job_changed(self, entry: Entry) -> None:
        """Counts the change of a job's state."""
        if entry.state == "running" and entry.started is not None and not entry.cancelling:
            self.wait.observe(entry.started - entry.created)
        if entry.state in FINISHED:
            self.finished.labels(entry.state).inc()
            if entry.seconds is not None:
                self.seconds.observe(entry.seconds)


class _Jobs(Collector):
    """The queue's own numbers, read when Prometheus asks."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("gencompositor_jobs", "Jobs that are kept, by state.", labels=["state"])
        for state, count in self._queue.counts().items():
            family.add_metric([state], count)
        yield family


class CountRequests:
    """Counts responses by method, route and status; unknown paths share one route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" else "other"
                self.metrics.requests.labels(method, route, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted if scope["type"] == "http" else send)
