"""The tables that :mod:`trainq.journal.projections` folds from the events.

* ``jobs``: one row a job, under a key made of its submission's ``number`` and its kind (:mod:`trainq.journal.keys`).
  ``front`` is below 1 while it goes ahead of everything and may have steps in the weights (0 and a little less: it was
  given back half done, the last one first; far less: its generation was lost), ``rank`` its place in the line
  otherwise, from its priority and how many jobs were ``started_before`` it came, ``blockers`` the number of jobs that
  it still waits for. ``best_step`` is the highest published step of all attempts, ``generation`` the one that covers
  it; ``deaths`` in a row of its worker fell in ``death_step``. ``content`` are the digest's first 64 bits: an index of
  whole digests would be eight times as long, and every submit changes another page of it.
* ``requests``: request ids, kept for ever. ``dependencies``: who waits for whom.
* ``counts``: how many jobs of each kind and state, so that counting costs the same with ten or ten million.
* ``line``: one row: the head's generation, the ``newest`` that ever was, the queue's pause and hold, the next number
  and that of the next task, how many train jobs were started, how they age, which have failed since the last one
  that succeeded, how many files wait in the inbox, until when the pause is (0: until it is resumed), which life of the
  trainer is to do no more, and the event that last asked for a checkpoint.
* ``effects``: what makes the steps of a job others than its settings say (:mod:`trainq.jobs.control`); they go when
  the job begins anew. ``keep`` in ``jobs``: of one that is to be ended, the steps that are done stay.
* ``damaged``: generations that did not verify.
* ``forks`` and ``trained``: which generation descends from which, and which job was trained to its end in which
  (:mod:`trainq.journal.lineage`).
* ``pins``: the checkpoints and snapshots that somebody wants kept. ``removals``: what retention has decided to remove,
  by the number of that event; ``state`` is ``trash`` until it is ``undone`` or ``purged``.
* ``dropped``: content that retention has deleted, or is about to (``gone`` 0), and that has not come again since.
* ``enclosed``: the content besides its file that a job's shard is made with. ``released``: the jobs that a person has
  let go from a hold (:mod:`trainq.journal.enclosing`).
* ``schedules``: each rule with what came of its last slot. ``slots``: all slots that are done, for ever: a clock that
  is set back meets them again.
* ``suites``: the digest that each suite of an evaluation is locked to. ``scores``: the newest of each checkpoint on
  each suite. ``judgements``: what those of a checkpoint meant beside the champion's, in the order of ``seq``.
  ``champions``: every move, the last one is true now. ``levels``: how hard what each generator makes is,
  ``level_suites`` the problems that each was judged on last, ``judged_levels`` which weights were, and moved it.
"""

from __future__ import annotations

import apsw

from trainq.jobs import FAILED
from trainq.journal import keys

# Jobs that people ask for by ``list --failed``: an index serves exactly this condition.
FAILED_CONDITION = f"(failures>0 OR state IN ({', '.join(repr(state.value) for state in sorted(FAILED))}))"

SCHEMA = f"""
CREATE TABLE jobs (
    key INTEGER PRIMARY KEY, id TEXT GENERATED ALWAYS AS (kind || '-' || (key / {keys.SPACING})) VIRTUAL,
    number INTEGER GENERATED ALWAYS AS (key / {keys.SPACING}) VIRTUAL,
    kind TEXT NOT NULL, state TEXT NOT NULL, name TEXT NOT NULL,
    front INTEGER NOT NULL, generated INTEGER NOT NULL, priority INTEGER NOT NULL, rank INTEGER NOT NULL,
    started_before INTEGER NOT NULL, digest TEXT NOT NULL, content INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    blockers INTEGER NOT NULL, submitted_seq INTEGER NOT NULL, submitted_at REAL NOT NULL,
    prepared INTEGER NOT NULL, shard TEXT NOT NULL, shard_digest TEXT NOT NULL, rows INTEGER NOT NULL,
    tokens INTEGER NOT NULL, attempts INTEGER NOT NULL, failures INTEGER NOT NULL, best_step INTEGER NOT NULL,
    generation INTEGER NOT NULL, deaths INTEGER NOT NULL, death_step INTEGER, worker TEXT NOT NULL,
    session TEXT NOT NULL, token INTEGER NOT NULL, cancel_reason TEXT, keep INTEGER NOT NULL DEFAULT 0,
    started_at REAL, ended_at REAL, retry_at REAL NOT NULL, reason TEXT NOT NULL, report BLOB, result BLOB
) STRICT;
CREATE INDEX jobs_line ON jobs(kind, front, generated, rank) WHERE state='queued' AND blockers=0;
CREATE INDEX jobs_ready ON jobs(front, generated, rank)
    WHERE kind='train' AND state='queued' AND blockers=0 AND prepared=1;
CREATE INDEX jobs_by_state ON jobs(state, kind);
CREATE INDEX jobs_failed ON jobs(kind) WHERE {FAILED_CONDITION};
CREATE INDEX jobs_running ON jobs(worker) WHERE state='running';
CREATE INDEX jobs_by_shard ON jobs(shard) WHERE shard<>'';
CREATE INDEX jobs_by_content ON jobs(content) WHERE kind='train';
CREATE INDEX jobs_by_generation ON jobs(generation) WHERE kind='train' AND state='succeeded';
CREATE INDEX jobs_trained ON jobs(generated) WHERE kind='train' AND state='succeeded';
CREATE INDEX tasks_by_end ON jobs(ended_at)
    WHERE kind NOT IN ('train', 'prepare') AND ended_at IS NOT NULL;
CREATE TABLE requests (id TEXT PRIMARY KEY, digest TEXT NOT NULL, job TEXT NOT NULL, seq INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE TABLE dependencies (
    after INTEGER NOT NULL, job INTEGER NOT NULL, any INTEGER NOT NULL, PRIMARY KEY (after, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_of ON dependencies(job);
CREATE TABLE counts (kind TEXT NOT NULL, state TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (kind, state))
    STRICT, WITHOUT ROWID;
CREATE TABLE line (
    one INTEGER PRIMARY KEY CHECK (one = 1), next_number INTEGER NOT NULL, paused_reason TEXT,
    generation INTEGER NOT NULL, checkpoint TEXT NOT NULL, step INTEGER NOT NULL, newest INTEGER NOT NULL,
    started INTEGER NOT NULL, held_reason TEXT, hold_spent INTEGER NOT NULL, failed_jobs TEXT NOT NULL,
    ageing_jobs INTEGER NOT NULL, next_task INTEGER NOT NULL, inbox_waiting INTEGER NOT NULL,
    paused_until REAL NOT NULL, drained_reason TEXT, stopped_session TEXT NOT NULL,
    stopped_reason TEXT NOT NULL, checkpoint_asked INTEGER NOT NULL
) STRICT;
INSERT INTO line VALUES (1, 1, NULL, 0, '', 0, 0, 0, NULL, 0, '', 20, 1, 0, 0.0, NULL, '', '', 0);
CREATE TABLE effects (job INTEGER NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, value INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (job, step, kind)) STRICT, WITHOUT ROWID;
CREATE TABLE damaged (generation INTEGER NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (generation, name)) STRICT, WITHOUT ROWID;
CREATE TABLE forks (first INTEGER PRIMARY KEY, source INTEGER NOT NULL) STRICT;
CREATE TABLE trained (generation INTEGER NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (generation, job))
    STRICT, WITHOUT ROWID;
CREATE TABLE pins (store TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (store, name)) STRICT, WITHOUT ROWID;
CREATE TABLE removals (removal INTEGER PRIMARY KEY, store TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE INDEX removals_in_trash ON removals(store, name) WHERE state='trash';
CREATE TABLE dropped (digest TEXT PRIMARY KEY, gone INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE enclosed (job INTEGER NOT NULL, role TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    sources BLOB NOT NULL, PRIMARY KEY (job, role)) STRICT, WITHOUT ROWID;
CREATE INDEX enclosed_by_digest ON enclosed(digest);
CREATE TABLE released (job INTEGER PRIMARY KEY) STRICT;
CREATE TABLE schedules (name TEXT PRIMARY KEY, rule TEXT NOT NULL, slot INTEGER NOT NULL, job TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE suites (name TEXT PRIMARY KEY, digest TEXT NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE scores (checkpoint TEXT NOT NULL, weights TEXT NOT NULL, suite TEXT NOT NULL, suite_digest TEXT NOT NULL,
    kind TEXT NOT NULL, scorer TEXT NOT NULL, n INTEGER NOT NULL, mean REAL NOT NULL, low REAL NOT NULL,
    high REAL NOT NULL, confidence REAL NOT NULL, seed INTEGER NOT NULL, evaluation TEXT NOT NULL, by TEXT NOT NULL,
    at REAL NOT NULL, truncated INTEGER NOT NULL, left_out INTEGER NOT NULL, credit REAL,
    PRIMARY KEY (checkpoint, suite)) STRICT, WITHOUT ROWID;
CREATE INDEX scores_by_suite ON scores(suite, checkpoint);
CREATE TABLE judgements (checkpoint TEXT PRIMARY KEY, seq INTEGER NOT NULL, champion TEXT NOT NULL,
    outcome TEXT NOT NULL, regressed INTEGER NOT NULL, reasons TEXT NOT NULL, comparisons TEXT NOT NULL,
    by TEXT NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX judgements_by_seq ON judgements(seq);
CREATE TABLE champions (seq INTEGER PRIMARY KEY, checkpoint TEXT NOT NULL, before TEXT NOT NULL, how TEXT NOT NULL,
    reason TEXT NOT NULL, by TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE levels (generator TEXT PRIMARY KEY, level INTEGER NOT NULL, checkpoint TEXT NOT NULL,
    evaluation TEXT NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE level_suites (generator TEXT NOT NULL, level INTEGER NOT NULL, suite_digest TEXT NOT NULL,
    PRIMARY KEY (generator, level)) STRICT, WITHOUT ROWID;
CREATE TABLE judged_levels (weights TEXT NOT NULL, generator TEXT NOT NULL, level INTEGER NOT NULL,
    suite_digest TEXT NOT NULL, moved INTEGER NOT NULL, PRIMARY KEY (weights, generator, level))
    STRICT, WITHOUT ROWID;
CREATE TABLE slots (name TEXT NOT NULL, slot INTEGER NOT NULL, PRIMARY KEY (name, slot)) STRICT, WITHOUT ROWID;
"""


def run_statements(connection: apsw.Connection, statements: str) -> None:
    """Execute each by itself: apsw stops at the first of several that returns a row."""
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)
