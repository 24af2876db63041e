"""Errors as problems."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.web import problems
from trainq import errors
from trainq.messages import Refused, RefusedError


def told(error: errors.TrainqError) -> tuple[int, dict[str, Any]]:
    response = problems.of_error(error)
    assert response.media_type == "application/problem+json"
    return response.status_code, json.loads(bytes(response.body))


@pytest.mark.parametrize(("error", "status"), [
    (errors.UsageError("no"), 400), (errors.InputError("it is empty"), 422), (errors.NotFoundError("none"), 404),
    (errors.BrokerUnavailableError("away"), 503), (errors.BusyError("later"), 503),
    (errors.StorageFullError("full"), 507), (errors.DamageError("path", "flipped"), 500),
    (RefusedError(Refused(code="transition", message="train-1 is succeeded")), 409),
    (RefusedError(Refused(code="something_new", message="x")), 500)])
def test_each_has_its_status(error: errors.TrainqError, status: int) -> None:
    found, problem = told(error)
    assert (found, problem["status"]) == (status, status)
    assert problem["message"] == error.message


def test_a_refusal_keeps_the_broker_s_code() -> None:
    assert told(RefusedError(Refused(code="transition", message="x", mend="y")))[1]["code"] == "transition"


def test_a_name_that_is_no_utf8_is_told_all_the_same() -> None:
    assert told(errors.InputError("it is empty", file="a\udcff"))[1]["message"].startswith("a\\udcff")
