"""What has fitted into memory is remembered for some jobs, and not where others were the cause."""

from __future__ import annotations

from services.trainer.fitting import JOBS, Fitting


def test_it_is_forgotten_after_some_jobs_though_each_begins_with_it() -> None:
    fitting = Fitting(others=lambda: "")
    assert fitting.job_begins() == 0
    fitting.fitted(8)
    fitting.fitted(4)
    rows = []
    for _ in range(JOBS + 2):
        rows.append(fitting.job_begins())
        if rows[-1]:
            fitting.fitted(rows[-1])  # as it is recorded for that job
    assert rows == [4] * JOBS + [0, 0]
    fitting.fitted(4)
    assert fitting.job_begins() == 4, "it is short again"


def test_a_lack_that_others_have_made_is_not_remembered() -> None:
    said = ["others use 5000 MiB of the GPU"]
    fitting = Fitting(others=lambda: said[0])
    fitting.fitted(4)
    assert fitting.job_begins() == 0
    said[0] = ""
    fitting.fitted(4)
    assert fitting.job_begins() == 4
