"""Schemathesis makes requests of all kinds, valid and not, from the OpenAPI document, and asks the real process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from places import place_with_broker
from webs import Web, submit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# A stream never ends; and that something is not well, or supervisord away, is said with 503.
LEFT_OUT = ("event_stream", "status_stream", "ready", "service_health", "start_service", "stop_service",
            "restart_service")
CHECKS = ("not_a_server_error", "content_type_conformance", "response_schema_conformance",
          "response_headers_conformance", "status_code_conformance", "negative_data_rejection", "unsupported_method")
EXAMPLES = 5


def test_no_request_that_the_document_allows_or_forbids_is_a_server_error(tmp_path: Path) -> None:
    with place_with_broker() as place:
        web = Web(place)
        submit(web, b'{"text": "a"}\n')
        said = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{web.port}/openapi.json",
             "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES),
             "--seed", "7", "--header", f"Authorization: Bearer {web.token}", "--request-timeout", "20", "--no-color",
             "--suppress-health-check", "all", "--continue-on-failure", "--workers", "1",
             *(word for name in LEFT_OUT for word in ("--exclude-operation-id", name))],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=380)
        assert said.returncode == 0, said.stdout[-12_000:] + said.stderr[-2000:]
        # Whoever runs no request finds no fault.
        tested = re.search(r"([\d,]+) generated", said.stdout)
        assert tested, said.stdout[-3000:]
        assert int(tested[1].replace(",", "")) > 500
        assert web.get("/health").status == 200
