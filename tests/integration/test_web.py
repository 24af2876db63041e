"""The web service as it is started, over real sockets: what it answers, and what it refuses."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from installations import wait_for
from places import Worker, jobs_of, place_with_broker
from services.web import exposition, serving, streams
from trainq import files, stephistory, suites
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import Heartbeat, HeartbeatReply, Lifecycle, PauseCause, Progress
from webs import Web, rows, submit

pytestmark = pytest.mark.slow

ROWS = b'{"text": "hello"}\n'


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with place_with_broker() as place:
        yield Web(place)


def half_an_upload(web: Web, path: str = "/api/v1/jobs") -> bytes:
    return (f"POST {path}?name=half HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
            f"Authorization: Bearer {web.token}\r\n"
            "Content-Length: 100000000\r\n\r\n").encode() + b"x" * 300_000


def long_to_judge(web: Web) -> bytes:
    """A request to validate a file of some hundred KiB that takes far longer than any test."""
    content = gzip.compress(ROWS * 6_000_000, 1)
    return (f"POST /api/v1/validate?name=long HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
            f"Authorization: Bearer {web.token}\r\nContent-Length: {len(content)}\r\n\r\n").encode() + content


def judges(web: Web) -> list[psutil.Process]:
    return psutil.Process(web.place.pid("web")).children()


def test_health_and_the_picture(web: Web) -> None:
    health = web.get("/health")
    assert health.status == 200
    assert health.document["pid"] == web.place.pid("web")
    wait_for(lambda: web.get("/daemon/status").document.get("source") == "status", "a picture that was published")
    picture = wait_for(lambda: web.get("/daemon/status").document.get("seq") and web.get("/daemon/status").document,
                       "a picture with the broker's figures")
    assert picture["age_seconds"] < 10
    assert {"broker", "web"} <= {service["name"] for service in picture["services"]}
    assert web.get("/api/v1/why").document["why"]
    assert web.get("/daemon/broker/health").document["state"] == "RUNNING"
    assert web.get("/daemon/nobody/health").status == 404
    assert web.get("/daemon/trainer/health").status == 503  # nobody has started it
    assert web.get("/ready").status == 503
    assert "trainer" in web.get("/ready").document["reason"]


def test_a_file_is_submitted_and_comes_back(web: Web) -> None:
    first = submit(web, ROWS, priority="high", set="learning_rate=1e-4", map="text=text")
    assert first.status == 201, first
    job = first.document["job"]
    assert first.headers["location"] == f"/api/v1/jobs/{job}"
    assert submit(web, ROWS).document == {**first.document, "duplicate": True}
    shown = web.get(f"/api/v1/jobs/{job.removeprefix('train-')}").document
    assert shown["job"]["priority"] == "high"
    assert shown["spec"]["train"]["learning_rate"] == 1e-4
    assert web.place.json("show", job)["job"]["digest"] == first.document["digest"]
    exported = web.ask("GET", f"/api/v1/jobs/{job}/export")
    assert (exported.status, exported.body) == (200, ROWS)
    assert "a.jsonl" in exported.headers["content-disposition"]


def test_a_submit_that_is_repeated_is_done_once(web: Web) -> None:
    content = rows(1)
    first, again = (web.post("/api/v1/jobs?name=b.jsonl&force=true", content, Idempotency_Key="key-1")
                    for _ in range(2))
    assert first.document["job"] == again.document["job"]
    for key in ("No Id", ""):
        assert web.post("/api/v1/jobs?name=b.jsonl&force=true", content, Idempotency_Key=key).status == 400


@pytest.mark.parametrize(("query", "body", "status"), [
    ("name=x", b"", 422), ("", ROWS, 400), ("name=x&priority=highest", ROWS, 400), ("name=x&set=seed", ROWS, 400),
    ("name=x&set=seed=1&set=seed=2", ROWS, 400), ("name=x&epochs=0", ROWS, 400), ("name=x&map=promt=a", ROWS, 400),
    ("name=x&after=TRAIN", ROWS, 400), ("name=x&after=train-999999", rows(2), 404), ("name=x&nmae=y", ROWS, 400),
    ("name=x&name=y", ROWS, 400), ("name=x&set=lerning_rate=1", ROWS, 400)])
def test_a_submit_that_makes_no_sense(web: Web, query: str, body: bytes, status: int) -> None:
    refused = web.post(f"/api/v1/jobs?{query}", body)
    assert refused.status == status, refused
    assert refused.headers["content-type"] == "application/problem+json"
    assert {"title", "status", "code", "message", "mend"} == refused.document.keys()
    assert not list(web.place.home.spool.glob("*"))


def test_an_upload_that_is_broken_off_leaves_nothing(web: Web) -> None:
    before = jobs_of(web.place)
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as link:
        link.sendall(half_an_upload(web))
        wait_for(lambda: list(web.place.home.spool.glob("*")), "it is being stored")
    wait_for(lambda: not list(web.place.home.spool.glob("*")), "it is gone")
    assert jobs_of(web.place) == before


def test_a_file_is_judged_as_the_command_judges_it(web: Web, tmp_path: Path) -> None:
    before = jobs_of(web.place)
    contents = {"bad": ROWS + b'{"txt": 1}\n\xff\n', "packed": gzip.compress(rows(70))}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    expected = web.place.json("validate", *(str(tmp_path / name) for name in contents), code=65)["files"]
    for document, (name, content) in zip(expected, contents.items(), strict=True):
        told = web.post(f"/api/v1/validate?name={name}", content)
        assert (told.status, told.document) == (200, {**document, "file": name})
    mapped = web.post("/api/v1/validate?name=x&map=prompt=fr%C3%A4ge,completion=b",
                      '{"fr\u00e4ge": "a", "b": "c"}\n'.encode())
    assert (mapped.document["accepted"], mapped.document["report"]["trained"]) == (True, 1)
    assert jobs_of(web.place) == before
    assert not list(web.place.home.spool.glob("*"))
    assert not judges(web)


def test_a_file_that_cannot_be_judged(web: Web) -> None:
    assert web.post("/api/v1/validate?name=x", b"").status == 422
    assert web.post("/api/v1/validate", ROWS).status == 400
    assert web.post("/api/v1/validate?name=x&map=promt=a", ROWS).status == 400
    assert web.post("/api/v1/validate?name=x", ROWS, Content_Encoding="gzip").status == 415
    assert web.post("/api/v1/validate?name=x&map=text=a%00", ROWS).document["accepted"] is False


def test_files_are_judged_one_at_a_time_and_for_no_client_that_has_gone(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as link:
        link.sendall(half_an_upload(web, "/api/v1/validate"))
        wait_for(lambda: web.post("/api/v1/validate?name=x", ROWS).document.get("code") == "busy", "it is busy")
    wait_for(lambda: web.post("/api/v1/validate?name=x", ROWS).status == 200, "it is free again")
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as link:
        link.sendall(long_to_judge(web))
        (judge,) = wait_for(lambda: judges(web), "it is being judged")
    wait_for(lambda: not judges(web) and not judge.is_running(), "it has ended")
    wait_for(lambda: web.post("/api/v1/validate?name=x", ROWS).status == 200, "it is free again")


def test_jobs_page_by_page(web: Web) -> None:
    for number in range(10, 15):
        submit(web, rows(number), name=f"{number}.jsonl")
    found: list[str] = []
    path = "/api/v1/jobs?limit=2"
    while True:
        page = web.get(path).document
        found += [job["id"] for job in page["jobs"]]
        if page["next_before"] is None:
            break
        path = f"/api/v1/jobs?limit=2&before={page['next_before']}"
    assert found == list(jobs_of(web.place))
    both: list[str] = []
    before = ""
    while True:
        page = web.get(f"/api/v1/jobs?limit=3&kind=train&kind=prepare{before}").document
        both += [job["id"] for job in page["jobs"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert len(both) == len(set(both)) == 2 * len(found)
    assert web.get("/api/v1/jobs?state=nonsense").status == 400
    assert web.get("/api/v1/jobs?limit=0").status == 400


def test_what_is_done_to_jobs(web: Web) -> None:
    job = submit(web, rows(20)).document["job"]
    cancelled = web.post(f"/api/v1/jobs/{job}/cancel", {"reason": "of no use"})
    assert (cancelled.status, cancelled.document) == (200, {"id": job, "state": "cancelled", "changed": True})
    assert web.get(f"/api/v1/jobs/{job}").document["job"]["reason"] == "of no use"
    assert web.post(f"/api/v1/jobs/{job}/cancel").document["changed"] is False
    assert web.post(f"/api/v1/jobs/{job}/retry").document["state"] == "queued"
    assert web.post("/api/v1/jobs/train-999999/cancel").status == 404
    assert web.post("/api/v1/skip").document["code"] == "usage"
    assert web.post(f"/api/v1/jobs/{job}/cancel", {"reason": 3}).status == 400
    assert web.post(f"/api/v1/jobs/{job}/cancel", {"raeson": "x"}).status == 400
    assert web.post(f"/api/v1/jobs/{job}/cancel", b"reason=x", Content_Type="text/plain").status == 415


def test_standing_orders(web: Web) -> None:
    assert web.post("/api/v1/pause", {"reason": "lunch"}).document == {"changed": True, "held_by": []}
    assert "lunch" in web.place.overview().pause
    assert web.post("/api/v1/resume").document["changed"] is True
    assert web.post("/api/v1/yield", {"time": "2h"}).status == 200
    assert web.place.overview().pause
    assert web.post("/api/v1/yield", {"time": "2 hours"}).status == 400
    assert web.post("/api/v1/drain").status == 200
    assert web.place.overview().drain
    assert web.post("/api/v1/stop").document["message"] == "no trainer has been heard of lately"
    control = web.place.home.control / ".pause"
    control.touch()
    assert web.post("/api/v1/resume").document == {"changed": True, "held_by": [".pause"]}
    control.unlink()
    assert web.post("/api/v1/checkpoint").document["changed"] is False


def test_snapshots_and_the_schedule(web: Web) -> None:
    assert web.get("/api/v1/snapshots").document == {"snapshots": []}
    assert web.get("/api/v1/snapshots/g000001-s00000001").status == 404
    asked = web.post("/api/v1/snapshots", {"generation": "../../etc"})
    assert asked.status == 400
    rules = web.get("/api/v1/schedules").document["schedules"]
    assert "retention" in {rule["name"] for rule in rules}
    asked = web.post("/api/v1/schedules/retention/run")
    assert (asked.status, asked.document["state"]) == (202, "queued")
    assert web.post("/api/v1/schedules/nothing/run").status == 404


def test_many_jobs_by_filter_only_when_it_is_confirmed(web: Web) -> None:
    jobs = [submit(web, rows(number), name=f"many-{number}.jsonl").document["job"] for number in range(50, 53)]
    told = web.post("/api/v1/cancel", {"name": "many-*"}).document
    assert told == {"matched": 3, "confirmed": False,
                    "jobs": [{"id": job, "state": "queued", "changed": False, "error": ""} for job in jobs]}
    assert [jobs_of(web.place)[job] for job in jobs] == ["queued"] * 3
    assert web.post("/api/v1/cancel", {"name": "many-*", "confirm": True}).status == 400
    done = web.post("/api/v1/cancel", {"confirm": {job["id"]: job["state"] for job in told["jobs"][:2]}}).document
    assert (done["matched"], [(job["id"], job["state"]) for job in done["jobs"]]) == (
        2, [(job, "cancelled") for job in jobs[:2]])
    assert web.get(f"/api/v1/jobs/{jobs[2]}").document["job"]["state"] == "queued"
    again = web.post("/api/v1/retry", {"confirm": dict.fromkeys(jobs[:2], "cancelled")}).document
    assert [job["state"] for job in again["jobs"]] == ["queued"] * 2
    assert web.post("/api/v1/cancel", {"limit": 2}).status == 400
    assert web.post("/api/v1/cancel", {"confirm": {"no job": "queued"}}).status == 400
    assert web.post("/api/v1/cancel", {"state": ["succeeded"]}).status == 400
    assert web.post("/api/v1/cancel", {"name": "x", "kind": ["prepare"]}).status == 400


def test_services_without_a_supervisord(web: Web) -> None:
    told = web.get("/api/v1/services").document
    assert told["supervisord"] is False
    assert {"broker", "trainer", "web"} <= {service["name"] for service in told["services"]}
    stopped = web.post("/api/v1/services/preparer/stop")
    assert (stopped.status, stopped.document["code"]) == (503, "no_supervisor")
    assert web.post("/api/v1/services/preparer/pause", {"reason": "lunch"}).document == {
        "name": "preparer", "changed": True, "note": ""}
    assert (web.place.home.control / ".pause-preparer").read_text() == "lunch\n"
    assert web.post("/api/v1/services/preparer/resume").document["changed"] is True
    assert web.post("/api/v1/services/preparer/resume").document["changed"] is False
    assert web.post("/api/v1/services/broker/pause").status == 400
    assert web.post("/api/v1/services/nobody/pause").status == 404
    for verb in ("stop", "restart"):
        refused = web.post(f"/api/v1/services/web/{verb}")
        assert (refused.status, refused.document["code"]) == (400, "usage")


def test_retention_and_consolidation(web: Web) -> None:
    plan = web.ask("GET", "/api/v1/retention/plan").document
    assert plan == {name: value for name, value in web.place.json("retention", "plan").items() if name != "v"}
    assert web.get("/api/v1/retention/trash").document == {"trash": []}
    assert web.post("/api/v1/retention/apply").status == 202
    assert web.post("/api/v1/retention/undelete", {"removal": 0}).status == 400
    assert web.post("/api/v1/retention/elsewhere/g000001-s00000001/pin").status == 400
    assert web.post("/api/v1/retention/snapshots/nonsense/pin").status == 400
    answers = [web.post("/api/v1/retention/undelete", {"removal": 424242}),
               web.post("/api/v1/retention/snapshots/g000001-s00000001/unpin"), web.post("/api/v1/consolidate")]
    assert all(answer.status < 500 for answer in answers), answers


def test_what_makes_the_model_better(web: Web) -> None:
    assert web.get("/api/v1/scores?limit=2").document == {"scores": [], "next_after": None}
    assert web.get("/api/v1/scores?after=nonsense").status == 400
    assert web.get("/api/v1/champion").document == {
        "champion": None, "previous": "", "judgement": None, "proposal": ""}
    assert web.get("/api/v1/champion?at=1d").status == 404
    assert web.get("/api/v1/champion?at=yesterday").status == 400
    assert web.post("/api/v1/champion/deliver").status == 400, "there is no place"
    assert web.get("/api/v1/champions").document == {"champions": [], "next_before": None}
    nobody = [web.post("/api/v1/promote"), web.post("/api/v1/promote", {"checkpoint": "../x"}),
              web.post("/api/v1/rollback"), web.post("/api/v1/rollback", {"to": "g000001-s00000000"})]
    assert [answer.status for answer in nobody] == [400] * 4
    assert web.post("/api/v1/promote", {"checkpoint": "g000042-s00000001"}).status == 404
    made = web.post("/api/v1/generate", {"name": "arithmetic", "count": 3, "seed": 7})
    assert (made.status, made.document["state"]) == (202, "queued")
    task = web.get(f"/api/v1/jobs/{made.document['job']}").document["task"]
    assert (task["generator"], task["count"], task["level"], task["seed"]) == ("arithmetic", 3, 1, 7)
    for refused in ({"name": "A"}, {"name": "syllo", "seed": 2**62}, {}):
        assert web.post("/api/v1/generate", refused).status == 400
    assert web.post("/api/v1/evaluate", {"checkpoint": "nonsense"}).status == 400
    assert web.post("/api/v1/evaluate", {"suites": ["../x"]}).status == 400
    suite = suites.write(web.place.home.suites / "mine", [{"text": "a"}, {"text": "b"}], kind="loss")
    assert web.post("/api/v1/suites/nobody/lock").status == 404
    locked = {"suite": "mine", "digest": suite.digest, "changed": True}
    assert web.post("/api/v1/suites/mine/lock").document == locked
    assert web.post("/api/v1/suites/mine/lock").document == {**locked, "changed": False}
    (told,) = web.ask("GET", "/api/v1/suites").document["suites"]
    assert (told["suite"], told["state"], told["rows"]) == ("mine", "locked", 2)
    assert [told] == web.place.json("suites", "list")["suites"]
    assert web.ask("GET", f"/api/v1/evaluations/{'0' * 64}/rows").status == 404
    assert web.ask("GET", "/api/v1/evaluations/nonsense/rows").status == 400
    assert web.ask("GET", f"/api/v1/evaluations/{'0' * 64}/rows", token=None).status == 401


def test_lineage_both_ways(web: Web) -> None:
    base = "/api/v1/lineage"
    none = web.ask("GET", f"{base}/generations/head")
    assert (none.status, none.document["code"]) == (404, "not_found")
    submitted = submit(web, rows(80)).document
    job, digest = submitted["job"], submitted["digest"]
    expected = {name: value for name, value in web.place.json("lineage", "--job", job).items() if name != "v"}
    for path in (f"jobs/{job}", f"digests/{digest}"):
        told = web.ask("GET", f"{base}/{path}")
        assert (told.status, told.document) == (200, {**expected, "left_out": []})
    for path, status in (("generations/nonsense", 400), ("generations/424242", 404), ("jobs/train-999999", 404),
                         (f"digests/{digest[1:]}", 400), (f"digests/{'0' * 64}", 404)):
        assert web.ask("GET", f"{base}/{path}").status == status


def test_log_lines_need_the_token(web: Web) -> None:
    job = submit(web, rows(60)).document["job"]
    for path in ("/api/v1/logs/broker", f"/api/v1/jobs/{job}/logs", "/api/v1/doctor", "/api/v1/retention/plan",
                 "/api/v1/lineage/generations/head"):
        assert web.get(path).status == 401
    told = web.ask("GET", "/api/v1/logs/broker?lines=2").document
    assert [line["service"] for line in told["lines"]] == ["broker"] * 2
    assert told["left_out"] == 0
    assert web.ask("GET", f"/api/v1/jobs/{job}/logs").status == 200
    assert web.ask("GET", "/api/v1/logs/nobody").status == 404
    assert web.ask("GET", "/api/v1/logs/broker?lines=1001").status == 400


def test_what_doctor_finds(web: Web) -> None:
    told = web.ask("GET", "/api/v1/doctor").document
    assert {"python", "disk", "broker"} <= {check["name"] for check in told["checks"]}


def test_the_steps_of_a_job(web: Web) -> None:
    assert web.get("/api/v1/jobs/train-424242/metrics").status == 404
    lines = b"".join(json.dumps({
        "step": step, "job_step": step, "loss": float(step), "learning_rate": 0.1, "grad_norm": 1.0 * step,
        "tokens": 10, "trained_tokens": 10, "seconds": 0.5}).encode() + b"\n" for step in range(1, 11))
    files.write_file(stephistory.path_of(web.place.home.metrics, "train-424242"), lines)
    page = web.get("/api/v1/jobs/train-424242/metrics?every=4").document
    assert [(each["first"], each["last"], each["loss"], each["tokens"]) for each in page["stretches"]] == [
        (1, 4, 2.5, 40), (5, 8, 6.5, 40), (9, 10, 9.5, 20)]
    assert page["next_after"] is None
    page = web.get("/api/v1/jobs/424242/metrics?after=2&limit=3").document
    assert [each["first"] for each in page["stretches"]] == [3, 4, 5]
    assert page["next_after"] == 5


def test_the_page_and_its_headers(web: Web) -> None:
    page = web.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert b"<script src=" in page.body
    assert b"<style" not in page.body
    policy = page.headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "default-src 'none'" in policy
    assert "server" not in page.headers
    assert web.get("/page.js").headers["content-type"].startswith("text/javascript")
    assert web.get("/openapi.json").document["openapi"] == "3.1.0"
    assert web.ask("HEAD", "/health", token=None).body == b""


# ---------------------------------------------------------------------------------------------------------- who may


WRITES = ("/api/v1/jobs?name=x", "/api/v1/validate?name=x", "/api/v1/jobs/train-1/cancel", "/api/v1/jobs/train-1/skip",
          "/api/v1/jobs/train-1/retry", "/api/v1/jobs/train-1/release", "/api/v1/skip", "/api/v1/pause",
          "/api/v1/yield", "/api/v1/drain", "/api/v1/stop", "/api/v1/resume", "/api/v1/checkpoint", "/api/v1/snapshots",
          "/api/v1/schedules/retention/run", "/api/v1/cancel", "/api/v1/retry", "/api/v1/services/trainer/stop",
          "/api/v1/services/trainer/start", "/api/v1/services/trainer/restart", "/api/v1/services/preparer/pause",
          "/api/v1/services/preparer/resume", "/api/v1/retention/apply", "/api/v1/retention/undelete",
          "/api/v1/retention/snapshots/g000001-s00000001/pin", "/api/v1/consolidate",
          "/api/v1/promote", "/api/v1/rollback", "/api/v1/champion/deliver", "/api/v1/generate", "/api/v1/evaluate",
          "/api/v1/suites/mine/lock")


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("token", [None, "x" * 43])
def test_without_the_token_nothing_is_changed(web: Web, path: str, token: str | None) -> None:
    head = web.place.overview().seq
    refused = web.ask("POST", path, {"time": "1h"} if "yield" in path else None, token=token)
    assert (refused.status, refused.document["code"]) == (401, "token")
    assert web.place.overview().seq == head


def test_a_file_s_content_needs_the_token(web: Web) -> None:
    job = submit(web, ROWS).document["job"]
    assert web.get(f"/api/v1/jobs/{job}/export").status == 401


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"}, {"Origin": "http://localhost:1"}])
def test_a_page_of_another_site_does_nothing_even_with_the_token(web: Web, headers: dict[str, str]) -> None:
    head = web.place.overview().seq
    assert web.post("/api/v1/pause", **headers).status == 403
    assert web.place.overview().seq == head
    assert web.get("/api/v1/events/stream", **headers).status == 403
    assert web.get("/api/v1/status/stream", **headers).status == 403


def test_no_page_of_another_site_may_read(web: Web) -> None:
    told = web.get("/daemon/status")
    assert not [name for name in told.headers if name.startswith("access-control-")]
    assert told.headers["cross-origin-resource-policy"] == "same-origin"
    preflight = web.ask("OPTIONS", "/api/v1/pause", token=None, Origin="http://evil.example",
                        Access_Control_Request_Method="POST")
    assert preflight.status == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1",
                                  "localhost.evil.example:{port}", ""])
def test_a_name_that_was_made_to_point_here_gets_nothing(web: Web, host: str) -> None:
    host = host.format(port=web.port)
    answer = web.raw(f"GET /daemon/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 "), answer[:100]
    assert b"journal_id" not in answer
    answer = web.raw(f"POST /api/v1/pause HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {web.token}\r\n"
                     "Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("path", [
    "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/page.js/../../app.py", "/%2e%2e/run/token", "//etc/passwd",
    "/api/v1/jobs/..%2f..%2frun%2ftoken", "/api/v1/jobs/../metrics", "/api/v1/jobs/%2e%2e/metrics",
    "/api/v1/snapshots/..", "/api/v1/snapshots/%2e%2e%2f%2e%2e", "/daemon/..%2fstatus/health", "/page.css%00",
    "/api/v1/jobs/train-1%00/metrics", "/api/v1/jobs/%ff/metrics", "http://evil.example/daemon/status"])
def test_no_path_leads_out(web: Web, path: str) -> None:
    answer = web.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), answer[:200]
    assert b"root:" not in answer
    assert web.token.encode() not in answer


@pytest.mark.parametrize(("method", "path"), [
    ("DELETE", "/api/v1/jobs"), ("PUT", "/api/v1/jobs/train-1"), ("PATCH", "/health"), ("POST", "/daemon/status"),
    ("GET", "/api/v1/pause"), ("HEAD", "/api/v1/pause"), ("TRACE", "/"), ("CONNECT", "/"), ("BREW", "/"),
    ("HEAD", "/api/v1/events/stream")])
def test_methods_that_are_not_allowed(web: Web, method: str, path: str) -> None:
    refused = web.ask(method, path)
    assert refused.status == 405
    assert refused.headers["allow"]


# ------------------------------------------------------------------------------------------------- hostile clients


def is_well(web: Web) -> bool:
    return web.get("/health").status == 200 and psutil.pid_exists(web.place.pid("web"))


@pytest.mark.parametrize("sent", [
    b"\x00" * 100, b"GET / FTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /" + b"a" * 70_000,
    b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"])
def test_what_is_no_http(web: Web, sent: bytes) -> None:
    assert web.raw(sent).startswith(b"HTTP/1.1 400 ")
    assert is_well(web)


def test_a_body_that_is_too_large(web: Web) -> None:
    assert web.post("/api/v1/pause", {"reason": "x" * 100_000}).status == 413
    assert web.post("/api/v1/pause", {"reason": "x" * 10_000}).status == 400
    assert web.post("/api/v1/pause", b"[" * 60_000, Content_Type="application/json").status == 400
    assert is_well(web)


def test_more_connections_than_there_may_be(web: Web) -> None:
    held: list[socket.socket] = []
    try:
        for _ in range(serving.MAX_CONNECTIONS + 20):
            held.append(socket.create_connection(("127.0.0.1", web.port), timeout=20))
        assert is_cut_off(held[-1])
        # Those that say nothing are let go after a while, and others come in.
        wait_for(lambda: reachable(web), "it answers again", serving.HEAD_SECONDS + 10)
    finally:
        for link in held:
            link.close()


def is_cut_off(link: socket.socket) -> bool:
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


def reachable(web: Web) -> bool:
    try:
        return is_well(web)
    except (OSError, http.client.HTTPException):
        return False


def test_a_client_that_dribbles_its_request_is_cut_off(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=serving.HEAD_SECONDS + 10) as link:
        link.sendall(b"GET / HT")
        assert is_cut_off(link)
    assert is_well(web)


def test_a_client_that_reads_nothing_is_cut_off(web: Web) -> None:
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(20)
        link.connect(("127.0.0.1", web.port))
        own = link.getsockname()[1]
        # Far more than the buffers between take.
        link.sendall(f"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n\r\n".encode() * 300)
        process = psutil.Process(web.place.pid("web"))

        def is_connected() -> bool:
            return any(each.raddr and each.raddr.port == own for each in process.net_connections("tcp"))

        wait_for(is_connected, "it is accepted")
        wait_for(lambda: not is_connected(), "it is cut off", serving.STALL_SECONDS + 20)
        assert is_well(web)


def test_streams_are_bounded_and_stuck_ones_hold_nobody_up(web: Web) -> None:
    opened = [web.stream("/api/v1/status/stream") for _ in range(streams.MAX_STREAMS)]
    try:
        assert {stream.status for stream in opened} == {200}
        refused = web.get("/api/v1/events/stream")
        assert (refused.status, refused.document["code"]) == (503, "busy")
        assert refused.headers["retry-after"]
        assert is_well(web)
    finally:
        for stream in opened:
            stream.__exit__()

    def has_room() -> bool:
        with web.stream("/api/v1/status/stream") as stream:
            return stream.status == 200

    wait_for(has_room, "there is room again")


# ---------------------------------------------------------------------------------------------------------- streams


def test_events_come_as_they_happen_and_what_was_missed_comes_again(web: Web) -> None:
    with web.stream("/api/v1/events/stream") as stream:
        assert stream.frame()["event"] == "journal"
        job = submit(web, rows(30)).document["job"]
        seen = stream.event("JobSubmitted")
        assert seen["job"] == job
    missed = submit(web, rows(31)).document["job"]
    web.post(f"/api/v1/jobs/{missed}/cancel")
    with web.stream("/api/v1/events/stream", Last_Event_ID=str(seen["seq"])) as stream:
        assert stream.event("JobSubmitted")["job"] == missed
        assert stream.event("JobCancelled")["job"] == missed
    with web.stream(f"/api/v1/events/stream?after=0&job={missed}") as stream:
        assert stream.event("JobSubmitted")["job"] == missed
        assert stream.event("JobCancelled")["job"] == missed
    assert web.get("/api/v1/events/stream", Last_Event_ID="x").status == 400


def test_all_events_since_the_first_come_in_order(web: Web) -> None:
    head = web.place.overview().seq
    with web.stream("/api/v1/events/stream?after=0") as stream:
        stream.frame()
        got = [int(stream.frame()["id"]) for _ in range(head)]
    assert got == list(range(1, head + 1))


def test_pictures_come_by_themselves(web: Web) -> None:
    with web.stream("/api/v1/status/stream") as stream:
        first, second = (json.loads(stream.frame()["data"]) for _ in range(2))
    assert second["at"] > first["at"]


def test_events_page_by_page(web: Web) -> None:
    found, after = [], 0
    while events := (page := web.get(f"/api/v1/events?after={after}&limit=7").document)["events"]:
        found += [event["seq"] for event in events]
        after = found[-1]
    assert found == list(range(1, page["head_seq"] + 1))


# ------------------------------------------------------------------------------------------- when others are away


def test_a_broker_that_is_away_and_comes_back() -> None:
    with place_with_broker() as place:
        web = Web(place)
        with web.stream("/api/v1/events/stream") as stream:
            assert stream.frame()["event"] == "journal"
            place.stop("broker", signal.SIGKILL)
            away = web.get("/api/v1/jobs")
            assert (away.status, away.document["code"]) == (503, "unavailable")
            assert "503" not in away.document["message"]
            assert web.get("/health").status == 200
            assert web.get("/ready").status == 503
            wait_for(lambda: web.get("/daemon/broker/health").document["state"] == "DEAD", "it is known to be dead", 60)
            place.start("broker")
            assert stream.event("BrokerStarted")
            assert submit(web, rows(1)).status == 201
            assert stream.event("JobSubmitted")
        place.stop("status", signal.SIGKILL)
        wait_for(lambda: web.get("/daemon/status/health").document["state"] == "DEAD", "it is known to be dead", 60)
        with socket.create_connection(("127.0.0.1", web.port), timeout=20) as link:
            link.sendall(long_to_judge(web))
            (judge,) = wait_for(lambda: judges(web), "a file is being judged")
            place.stop("web", signal.SIGKILL)
            wait_for(lambda: not judge.is_running() or judge.status() == psutil.STATUS_ZOMBIE, "it ends with it")
        place.start("web")
        port = web.port
        web.port = wait_for(lambda: web._port() if web._port() != port else 0, "web is back", 20)
        assert web.get("/daemon/status").document["source"] == "status.json"
        assert place.home.token_file.read_text().strip() == web.token


def test_ready_with_a_trainer(web: Web) -> None:
    worker = Worker(web.place.home)
    submit(web, rows(40))
    try:
        worker.complete(worker.lease(JobKind.PREPARE))
        worker.beat(worker.lease(JobKind.TRAIN), Progress(step=1, steps=2))
    finally:
        worker.client.close()
    wait_for(lambda: web.get("/ready").document["ready"], "it is ready", 60)
    running = web.get("/api/v1/jobs?state=running").document["jobs"]
    skipped = web.post("/api/v1/skip", {"keep": True}).document
    assert (skipped["id"], skipped["state"]) == (running[0]["id"], "running")


@pytest.mark.parametrize(("state", "cause", "detail", "is_ready"), [
    (Lifecycle.RUNNING, None, "", True),
    (Lifecycle.PAUSED, PauseCause.ORDERED, "control/.stop is there", True),
    (Lifecycle.PAUSED, PauseCause.LENT, "lend-3 (x) has the GPU", True),
    (Lifecycle.PAUSED, PauseCause.WAITING, "the GPU has 91 degrees", True),
    (Lifecycle.PAUSED, PauseCause.HINDERED, "the GPU cannot be used", False),
    (Lifecycle.PAUSED, PauseCause.DISABLED, 'not in profile: [services] profile = "coordinator"', False),
    (Lifecycle.PAUSED, PauseCause.GIVEN_UP, "it has ended 5 times by its own doing", False),
    (Lifecycle.ERROR, None, "no model", False)])
def test_a_trainer_that_has_given_up_is_not_ready(web: Web, state: Lifecycle, cause: PauseCause | None, detail: str,
                                                  is_ready: bool) -> None:
    with BrokerClient(web.place.home) as client:
        client.call(Heartbeat(request_id=new_request_id(), service="trainer", session="s9", pid=os.getpid(),
                              state=state, detail=detail, cause=cause), HeartbeatReply)

    def said() -> bool:
        document = web.get("/ready").document
        return document["ready"] is is_ready and (is_ready or detail in document["reason"])

    wait_for(said, "it says so", 60)


def test_it_ends_soon_with_streams_open_and_an_upload_under_way() -> None:
    with place_with_broker() as place:
        web = Web(place)
        with web.stream("/api/v1/events/stream") as stream, \
                socket.create_connection(("127.0.0.1", web.port), timeout=20) as link, \
                socket.create_connection(("127.0.0.1", web.port), timeout=20) as judged:
            link.sendall(half_an_upload(web))
            wait_for(lambda: list(place.home.spool.glob("*")), "it is being stored")
            judged.sendall(long_to_judge(web))
            (judge,) = wait_for(lambda: judges(web), "a file is being judged")
            assert stream.status == 200
            place.stop("web")  # within 20 s, or it fails
            assert not judge.is_running()
        assert not list(place.home.spool.glob("*"))


def test_a_port_that_somebody_else_has_is_said_and_had_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with place_with_broker(TRAINQ_WEB_PORT=str(port)) as place:
            place.start("web")

            def state() -> tuple[str, str]:
                return next(((view.state, view.detail) for view in place.overview().services if view.name == "web"),
                            ("", ""))

            wait_for(lambda: state()[0] == "ERROR" and str(port) in state()[1], "it says so")
            taken.close()
            wait_for(lambda: state()[0] == "RUNNING", "it has it")


def test_it_rests_where_it_is_not_wanted() -> None:
    with place_with_broker(TRAINQ_SERVICES_PROFILE="minimal") as place:
        place.start("web")
        wait_for(lambda: any(view.name == "web" and view.state == "PAUSED" for view in place.overview().services),
                 "it is paused")
        assert not psutil.Process(place.pid("web")).net_connections("tcp")


def test_it_listens_on_loopback_alone(web: Web) -> None:
    listening = [each for each in psutil.Process(web.place.pid("web")).net_connections("inet")
                 if each.status == psutil.CONN_LISTEN]
    assert [each.laddr.ip for each in listening] == ["127.0.0.1"]


def test_many_at_once_are_answered(web: Web) -> None:
    answers: list[int] = []

    def ask() -> None:
        for _ in range(6):
            answers.append(web.get("/api/v1/jobs?limit=5").status)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 60
    assert os.path.exists(f"/proc/{web.place.pid('web')}")  # noqa: PTH110


def test_the_token_is_for_its_owner_alone(web: Web) -> None:
    assert web.place.home.token_file.stat().st_mode & 0o777 == 0o600
    assert Path(web.place.home.run).stat().st_mode & 0o777 == 0o700


def test_the_figures_for_prometheus(web: Web) -> None:
    wait_for(lambda: web.get("/daemon/status").document.get("seq"), "a picture with the broker's figures")

    def figures() -> dict[str, float]:
        answered = web.get("/metrics")
        assert (answered.status, answered.headers["content-type"]) == (200, exposition.CONTENT_TYPE)
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(answered.body.decode()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    before = figures()
    assert before["trainq_exporter_broker_up"] == 1
    submit(web, b'{"text": "figures"}\n')
    assert figures()["trainq_jobs_submitted_total"] == before.get("trainq_jobs_submitted_total", 0) + 1
    with ThreadPoolExecutor(8) as several:
        assert set(several.map(lambda _: web.get("/metrics").status, range(16))) == {200}
    assert web.ask("POST", "/metrics").status == 405
