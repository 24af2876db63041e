"""The table of all operations: what there is, and nothing else is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.web import (
    bulk,
    examining,
    health,
    judging,
    keeping,
    learning,
    loglines,
    openapi,
    problems,
    reading,
    servicing,
    steering,
    tracing,
    uploading,
)
from services.web.guarding import Guard
from services.web.operations import Call, Endpoint, Operation, answered
from services.web.sites import DaemonStatus, Site
from trainq.errors import NotFoundError, UsageError
from trainq.messages import JobDetail, Schedules
from trainq.orders import Moved, Outcome
from trainq.picture import ServiceStatus
from trainq.planning import RetentionPlan
from trainq.servicing import Steered

V1 = "/api/v1"
_JOB = {"job": "train-7, or 7 for short"}
_SERVICE = {"service": "broker, trainer, ..."}
_COPY = {"store": "checkpoints or snapshots", "name": "g000042-s00001200"}
_SNAPSHOT = {"name": "g000042-s00001200"}
_GENERATION = {"name": "g000042-s00001200, 42 for short, or head"}
_CREATED, _ACCEPTED = HTTPStatus.CREATED, HTTPStatus.ACCEPTED


async def document(_call: Call) -> Response:
    """The OpenAPI document of all operations."""
    return answered(_document())


@functools.cache
def _document() -> dict[str, Any]:
    return openapi.document(OPERATIONS)


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/", "index", "A page with the status picture.", health.index, media="text/html"),
    Operation("GET", "/page.js", "script", "The script of the page.", health.script, media="text/javascript"),
    Operation("GET", "/page.css", "style", "The style of the page.", health.style, media="text/css"),
    Operation("GET", "/openapi.json", "document", "This document.", document, answer=dict[str, Any]),
    Operation("GET", "/health", "health", "Whether this process lives.", health.health, answer=health.Health),
    Operation("GET", "/ready", "ready", "Whether files that are submitted now will be trained; 503: not now.",
              health.ready, answer=health.Readiness),
    Operation("GET", "/metrics", "metrics", "Figures in the text format of Prometheus.", health.metrics,
              media="text/plain"),
    Operation("GET", "/daemon/status", "status", "The status picture.", health.status, answer=DaemonStatus),
    Operation("GET", "/daemon/{service}/health", "service_health", "One service of the picture; 503: it is not well.",
              health.service_health, answer=ServiceStatus, words=_SERVICE),
    Operation("GET", f"{V1}/why", "why", "What is training, or why nothing is.", health.why, answer=health.Why),
    Operation("GET", f"{V1}/status/stream", "status_stream", "The status picture, each time that there is a new one.",
              reading.status_stream, media="text/event-stream"),
    Operation("GET", f"{V1}/jobs", "list_jobs", "Jobs, newest first, page by page.", reading.list_jobs,
              query=reading.JobsQuery, answer=reading.Jobs),
    Operation("POST", f"{V1}/jobs", "submit",
              "Submit a file, which is the body. With the same Idempotency-Key it is done once. 200: a duplicate.",
              uploading.submit, query=uploading.SubmitQuery, answer=uploading.FileAccepted, status=_CREATED,
              takes="application/octet-stream", once=True),
    Operation("POST", f"{V1}/validate", "validate",
              "What would become of a file, which is the body, and what is wrong in it. Nothing of it is kept.",
              judging.validate, query=judging.ValidateQuery, answer=judging.Judged, takes="application/octet-stream"),
    Operation("GET", f"{V1}/jobs/{{job}}", "show_job", "Everything about one job.", reading.show_job, answer=JobDetail,
              words=_JOB),
    Operation("GET", f"{V1}/jobs/{{job}}/export", "export", "The job's file, as it was accepted.", uploading.export,
              media="application/octet-stream", private=True, words=_JOB),
    Operation("GET", f"{V1}/jobs/{{job}}/metrics", "job_metrics", "The history of the job's steps.",
              reading.job_metrics, query=reading.StepsQuery, answer=reading.Steps, words=_JOB),
    Operation("GET", f"{V1}/jobs/{{job}}/logs", "job_logs", "The newest log lines about the job, of all services.",
              loglines.of_job, query=loglines.LogsQuery, answer=loglines.LogLines, private=True, words=_JOB),
    Operation("POST", f"{V1}/jobs/{{job}}/cancel", "cancel", "End the job.", steering.cancel, body=steering.EndBody,
              answer=Outcome, words=_JOB),
    Operation("POST", f"{V1}/jobs/{{job}}/skip", "skip", "End the job, with or without what it has taught.",
              steering.skip, body=steering.EndBody, answer=Outcome, words=_JOB),
    Operation("POST", f"{V1}/jobs/{{job}}/retry", "retry", "Try a job again that was set aside or cancelled.",
              steering.retry, body=steering.OrderBody, answer=Outcome, words=_JOB),
    Operation("POST", f"{V1}/jobs/{{job}}/release", "release", "Train a job all the same that is held for its quality.",
              steering.release, body=steering.OrderBody, answer=Outcome, words=_JOB),
    Operation("POST", f"{V1}/skip", "skip_running", "End the job that runs.", steering.skip, body=steering.EndBody,
              answer=Outcome),
    Operation("POST", f"{V1}/cancel", "cancel_many", "End the jobs that a filter finds; without confirm: say which.",
              bulk.cancel, body=bulk.CancelManyBody, answer=bulk.Many),
    Operation("POST", f"{V1}/retry", "retry_many", "Try the jobs again that a filter finds; else as cancel_many.",
              bulk.retry, body=bulk.RetryManyBody, answer=bulk.Many),
    Operation("POST", f"{V1}/pause", "pause", "Save what runs, and train nothing until resumed.", steering.pause,
              body=steering.PauseBody, answer=steering.Ordered),
    Operation("POST", f"{V1}/yield", "yield", "Pause for some time.", steering.yield_, body=steering.YieldBody,
              answer=steering.Ordered),
    Operation("POST", f"{V1}/drain", "drain", "Let the running training end, and none begin.", steering.drain,
              body=steering.DrainBody, answer=steering.Ordered),
    Operation("POST", f"{V1}/stop", "stop", "Save, give the job back, and do no more.", steering.stop,
              body=steering.StopBody, answer=steering.Ordered),
    Operation("POST", f"{V1}/resume", "resume", "Go on after a pause, a drain or a stop.", steering.resume,
              body=steering.OrderBody, answer=steering.Ordered),
    Operation("POST", f"{V1}/checkpoint", "checkpoint", "Publish the state of the model with the next step.",
              steering.checkpoint, body=steering.OrderBody, answer=steering.Ordered),
    Operation("GET", f"{V1}/doctor", "doctor", "What is wrong with the installation, and its mend.",
              examining.examine, answer=examining.Findings, private=True),
    Operation("GET", f"{V1}/services", "list_services", "How each service is.", servicing.list_services,
              answer=servicing.Services),
    Operation("POST", f"{V1}/services/{{service}}/start", "start_service", "Start it, and wait until it runs.",
              servicing.start, body=steering.OrderBody, answer=Steered, words=_SERVICE),
    Operation("POST", f"{V1}/services/{{service}}/stop", "stop_service", "Stop it, and wait until it has ended.",
              servicing.stop, body=steering.OrderBody, answer=Steered, words=_SERVICE),
    Operation("POST", f"{V1}/services/{{service}}/restart", "restart_service", "Stop it and start it again.",
              servicing.restart, body=steering.OrderBody, answer=Steered, words=_SERVICE),
    Operation("POST", f"{V1}/services/{{service}}/pause", "pause_service", "Let it take no new work until resumed.",
              servicing.pause, body=servicing.RestBody, answer=servicing.Rested, words=_SERVICE),
    Operation("POST", f"{V1}/services/{{service}}/resume", "resume_service", "Let it go on after a pause.",
              servicing.resume, body=steering.OrderBody, answer=servicing.Rested, words=_SERVICE),
    Operation("GET", f"{V1}/logs/{{service}}", "service_logs", "The newest log lines of a service.",
              loglines.of_service, query=loglines.LogsQuery, answer=loglines.LogLines, private=True, words=_SERVICE),
    Operation("GET", f"{V1}/events", "events", "What happened, from the journal, page by page.", reading.events,
              query=reading.EventsQuery, answer=reading.EventPage),
    Operation("GET", f"{V1}/events/stream", "event_stream",
              "Events as they happen; the id of each is its number, and Last-Event-ID brings what was missed.",
              reading.event_stream, query=reading.StreamQuery, media="text/event-stream"),
    Operation("GET", f"{V1}/snapshots", "list_snapshots", "All snapshots, newest generation first.",
              reading.list_snapshots, answer=reading.Snapshots),
    Operation("POST", f"{V1}/snapshots", "take_snapshot", "Ask for a snapshot.", steering.take_snapshot,
              body=steering.SnapshotBody, answer=steering.Asked, status=_ACCEPTED),
    Operation("GET", f"{V1}/snapshots/{{name}}", "show_snapshot", "What is in one.", reading.show_snapshot,
              answer=reading.SnapshotView, words=_SNAPSHOT),
    Operation("GET", f"{V1}/lineage/generations/{{name}}", "lineage", "What made a generation.", tracing.made,
              query=tracing.MadeQuery, answer=tracing.Made, private=True, words=_GENERATION),
    Operation("GET", f"{V1}/lineage/jobs/{{job}}", "job_lineage", "Which generations hold the job's file.",
              tracing.of_job, answer=tracing.Holders, private=True, words=_JOB),
    Operation("GET", f"{V1}/lineage/digests/{{digest}}", "digest_lineage", "Which generations hold a file's content.",
              tracing.of_digest, answer=tracing.Holders, private=True,
              words={"digest": "BLAKE3 of the content, 64 lower-case hexadecimal digits"}),
    Operation("GET", f"{V1}/retention/plan", "retention_plan",
              "Which copies would stay and which would go, with the reasons.", keeping.plan, answer=RetentionPlan,
              private=True),
    Operation("POST", f"{V1}/retention/apply", "apply_retention",
              "Ask for what may go to be moved to the trash, and for it to be emptied of what is old.", keeping.apply,
              body=steering.OrderBody, answer=steering.Asked, status=_ACCEPTED),
    Operation("GET", f"{V1}/retention/trash", "trash", "What lies in the trash.", keeping.trash,
              answer=keeping.Trash),
    Operation("POST", f"{V1}/retention/undelete", "undelete", "Ask for one to be brought back from the trash.",
              keeping.undelete, body=keeping.UndeleteBody, answer=steering.Asked, status=_ACCEPTED),
    Operation("POST", f"{V1}/retention/{{store}}/{{name}}/pin", "pin", "Keep a copy, whatever the rules say.",
              keeping.pin, body=keeping.PinBody, answer=keeping.Pinned, words=_COPY),
    Operation("POST", f"{V1}/retention/{{store}}/{{name}}/unpin", "unpin", "Let the rules decide over it again.",
              keeping.unpin, body=steering.OrderBody, answer=keeping.Pinned, words=_COPY),
    Operation("POST", f"{V1}/consolidate", "consolidate", "Ask for the adapter to be merged into the weights.",
              keeping.consolidate, body=keeping.ConsolidateBody, answer=steering.Asked, status=_ACCEPTED),
    Operation("GET", f"{V1}/scores", "scores", "What each checkpoint scores on each suite, the newest first.",
              learning.scores, query=learning.ScoresQuery, answer=learning.ScorePage),
    Operation("GET", f"{V1}/champion", "champion", "Who is champion, or was it, and what was judged last.",
              learning.champion, query=learning.ChampionQuery, answer=learning.Champion),
    Operation("POST", f"{V1}/champion/deliver", "deliver", "Put the champion once more to where others fetch it.",
              learning.deliver, body=steering.OrderBody, answer=learning.Delivered, status=_ACCEPTED),
    Operation("GET", f"{V1}/champions", "champions", "The moves of the champion, newest first.", learning.champions,
              query=learning.MovesQuery, answer=learning.Moves),
    Operation("POST", f"{V1}/promote", "promote", "Make a checkpoint champion, whatever the numbers say.",
              learning.promote, body=learning.PromoteBody, answer=Moved),
    Operation("POST", f"{V1}/rollback", "rollback", "Make one that was champion before champion again.",
              learning.roll_back, body=learning.RollBackBody, answer=Moved),
    Operation("POST", f"{V1}/generate", "generate", "Ask for a file to be made for the model to learn from.",
              learning.generate, body=learning.GenerateBody, answer=steering.Asked, status=_ACCEPTED),
    Operation("POST", f"{V1}/evaluate", "evaluate", "Ask for a checkpoint to be scored.", learning.evaluate,
              body=learning.EvaluateBody, answer=steering.Asked, status=_ACCEPTED),
    Operation("GET", f"{V1}/evaluations/{{key}}/rows", "evaluation_rows",
              "A score row by row, with what the model has answered.", learning.rows, query=learning.RowsQuery,
              answer=learning.EvaluationRows, private=True,
              words={"key": "the evaluation that a score names, 64 lower-case hexadecimal digits"}),
    Operation("GET", f"{V1}/suites", "suites", "What is scored on, and whether it is what it was.",
              learning.list_suites, answer=learning.Suites, private=True),
    Operation("POST", f"{V1}/suites/{{name}}/lock", "lock_suite",
              "Say that a changed suite is meant to be so: its scores begin anew.", learning.lock,
              body=learning.LockBody, answer=learning.Locked, words={"name": "as the list has it"}),
    Operation("GET", f"{V1}/schedules", "schedules", "What is done by itself, and when.", reading.schedules,
              answer=Schedules),
    Operation("POST", f"{V1}/schedules/{{name}}/run", "run_schedule", "Ask for what a rule asks for, now.",
              steering.run_schedule, body=steering.OrderBody, answer=steering.Asked, status=_ACCEPTED,
              words={"name": "as the schedule has it"}),
)


def application(site: Site, port: int) -> ASGIApp:
    """The application that answers on ``port``."""
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)
    routes = []
    for path, operations in by_path.items():
        endpoint = Endpoint(site, operations)
        route = Route(path, endpoint, methods=endpoint.methods)
        # Starlette adds HEAD to every GET.
        route.methods = set(endpoint.methods)
        routes.append(route)
    made = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    made.router.redirect_slashes = False
    return Guard(made, port)


async def _refused(request: Request, error: Exception) -> Response:
    """What the router says: there is no such path, or no such method of it."""
    assert isinstance(error, HTTPException)
    status, headers = HTTPStatus(error.status_code), _sorted_methods(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return problems.of(status, UsageError.code, f"{request.method} is not possible here",
                           f"possible: {headers.get('allow', '')}", headers)
    return problems.of(status, NotFoundError.code, "there is nothing here", "see /openapi.json", headers)


def _sorted_methods(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): ", ".join(sorted(value.split(", "))) for name, value in headers.items()}
