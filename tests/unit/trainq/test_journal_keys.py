"""The numbers under which the tables keep jobs."""

import pytest

from trainq.errors import NotFoundError
from trainq.jobs import JobKind
from trainq.journal import keys


def test_each_kind_has_a_number_of_its_own_for_ever() -> None:
    """They are in the files of every installation."""
    assert {kind: keys.key_of(f"{kind}-1") for kind in JobKind} == {
        JobKind.PREPARE: 16, JobKind.TRAIN: 17, JobKind.SNAPSHOT: 18, JobKind.VERIFY: 19,
        JobKind.RETENTION: 20, JobKind.RESTORE: 21, JobKind.BACKUP: 22, JobKind.CONSOLIDATE: 23,
        JobKind.REBASE: 24, JobKind.LEND: 25, JobKind.GENERATE: 26, JobKind.EVALUATE: 27, JobKind.PUBLISH: 28}


@pytest.mark.parametrize("kind", list(JobKind))
@pytest.mark.parametrize("number", [1, 9, 10**6, 10**17 - 1])
def test_a_key_is_its_job_s(kind: JobKind, number: int) -> None:
    assert keys.id_of(keys.key_of(f"{kind}-{number}")) == f"{kind}-{number}"
    assert keys.sibling(keys.key_of(f"{kind}-{number}"), JobKind.TRAIN) == keys.key_of(f"train-{number}")
    assert keys.key_of(f"{kind}-{number}") < 2**63


@pytest.mark.parametrize("job", ["", "train", "train-", "-1", "train-0", "train-01", "train--1", "train-1 ", "train-x",
                                 "train-\u0661", "train-1-2", "other-1", "Train-1", f"train-{10**17}"])
def test_what_no_job_is_called_is_not_found(job: str) -> None:
    with pytest.raises(NotFoundError, match="there is no job"):
        keys.key_of(job)
