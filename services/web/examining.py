"""What is wrong with the installation, as ``trainq doctor`` finds it. It quotes log lines, so it needs the token."""

from __future__ import annotations

import os
import threading

import msgspec

from services.web.operations import Call
from trainq import doctor
from trainq.config import project_root
from trainq.doctor import Finding, Verdict
from trainq.errors import BusyError

# Of one check.
CHECK_SECONDS = 3.0


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """``ok``: nothing must be mended."""

    ok: bool
    checks: list[Finding]


async def examine(call: Call) -> Findings:
    # A check that hangs in the kernel or a driver leaves its thread behind: no second one beside it.
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("doctor ")]
    with call.site.alone("a look at the installation"):
        if left:
            raise BusyError(f"of an earlier look there still hangs: {', '.join(left)}", mend="trainq doctor")
        return await call.site.asker.wait(_findings)


def _findings() -> Findings:
    subject = doctor.subject_of(os.environ, project_root())
    found = doctor.examine(subject, doctor.CHECKS, limit_seconds=CHECK_SECONDS)
    return Findings(ok=not any(each.verdict is Verdict.FAIL for each in found), checks=found)
