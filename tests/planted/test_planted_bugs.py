"""The test of the tests: each bug that would break the promise is planted into a copy of the tree, and must be caught.

A bug is a change of the source; where its old text is no longer there exactly once, the bug is stale and says so. The
same tests must pass without any bug. ``docs/reliability.md`` shows this table.
"""

import compileall
import py_compile
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.planted.forks import run_tests
from trainq import config

pytestmark = pytest.mark.slow

ROOT = config.project_root()
COPIED = ("services", "shared", "tests", "scripts", "pyproject.toml", "supervisord.conf", "trainq.toml", "examples",
          "docs")
DESK = "tests/unit/services/broker/test_desk_faults.py"
TRAINING = "tests/unit/trainq/ml/test_training.py"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """``edits``: (old text, new text) in ``path``. ``caught_by``: the tests of which at least one must fail."""

    name: str
    path: str
    edits: tuple[tuple[str, str], ...]
    caught_by: str


BUGS = (
    Bug(name="acknowledge before commit", path="services/broker/app.py",
        edits=(("            answered.append((message, request, replies[message.payload]))\n",
                "            answered.append((message, request, replies[message.payload]))\n"
                "            self._requests.reply(message, self._envelope(*answered[-1]))\n"),),
        caught_by="tests/unit/services/broker/test_app.py"),
    Bug(name="missing fsync of the file", path="shared/trainq/files.py",
        edits=(("                stream.flush()\n                _sync_file(stream.fileno())\n",
                "                stream.flush()\n"),),
        caught_by="tests/unit/test_durability.py"),
    Bug(name="missing fsync of the folder", path="shared/trainq/files.py",
        edits=(("    _sync_directory(destination.parent)\n", ""),),
        caught_by="tests/unit/test_durability.py"),
    Bug(name="offset stored outside the checkpoint", path="shared/trainq/ml/training.py",
        edits=(("    run.metrics.append(metrics)\n",
                "    run.metrics.append(metrics)\n"
                "    (run.home.root / 'offset').write_text(str(run.line.facts.cursor.job_step))\n"),
               ("        _place_cursor(line, job, plan, effects)\n",
                "        _place_cursor(line, job, plan, effects)\n"
                "        if line.facts.cursor.job_step and (home.root / 'offset').exists():\n"
                "            line.facts = msgspec.structs.replace(line.facts, cursor=msgspec.structs.replace(\n"
                "                line.facts.cursor, job_step=int((home.root / 'offset').read_text())))\n")),
        caught_by=f"{TRAINING}::test_steps_after_the_last_checkpoint_are_done_again_and_counted_once"),
    Bug(name="resume by highest step", path="shared/trainq/checkpoints.py",
        edits=(("sorted(found, reverse=True)", "sorted(found, key=lambda f: (f[0].step, f[0]), reverse=True)"),),
        caught_by="tests/unit/trainq/test_checkpoints.py"),
    Bug(name="lost fencing check", path="services/broker/endings.py",
        edits=(("    if row.state is not JobState.RUNNING or row.token != token:\n        raise StaleLeaseError(",
                "    if row.state is not JobState.RUNNING:\n        raise StaleLeaseError("),),
        caught_by="tests/unit/services/broker/test_endings.py"),
    Bug(name="skipped requeue", path="services/broker/reconciling.py",
        edits=(("        for row in uncovered if row.id not in back\n",
                "        for row in uncovered[1:] if row.id not in back\n"),),
        caught_by=DESK),
    Bug(name="restored jobs not brought back", path="services/broker/reconciling.py",
        edits=(("    events += _reinstate(reinstatable, reason)\n", ""),),
        caught_by="tests/property/test_restoring.py"),
    Bug(name="attempt counted after delivery", path="shared/trainq/journal/projections.py",
        edits=(('"token=?": seq, "attempts=?": event.attempt, ', '"token=?": seq, '),
               # It is counted when it ends, in whichever way: a crash before that forgets it.
               ("        columns: _Changes = self._columns(seq, at, event, key, row)\n",
                "        columns: _Changes = self._columns(seq, at, event, key, row)\n"
                "        if before is JobState.RUNNING and after is not JobState.RUNNING:\n"
                "            columns['attempts=attempts+?'] = 1\n")),
        caught_by=DESK),
    Bug(name="RNG not restored", path="shared/trainq/ml/checkpointing.py",
        edits=(("    randomness.restore(_read_tensors(path / staging.RNG), state.rng)\n", ""),),
        caught_by="tests/unit/trainq/ml/test_checkpointing.py::test_the_generators_draw_what_they_would_have_drawn"),
    Bug(name="scheduler not restored", path="shared/trainq/ml/stepping.py",
        edits=(("        step=facts.step, job_step=job_step,",
                "        step=line.unpublished_steps, job_step=job_step,"),),
        caught_by=f"{TRAINING}::test_stopped_and_resumed_is_undisturbed"),
    Bug(name="the rate of another step of the job", path="shared/trainq/ml/stepping.py",
        edits=(("step=facts.step, job_step=job_step,", "step=facts.step, job_step=line.unpublished_steps,"),),
        caught_by="tests/unit/trainq/ml/test_stepping.py::test_gone_on_from_after_any_step_it_is_undisturbed[linear]"),
    Bug(name="weights under an adapter removed", path="shared/trainq/retention/stock.py",
        edits=(("            reasons.setdefault(facts.adapter_of,", "            reasons.setdefault('',"),),
        caught_by="tests/unit/trainq/retention/test_stock.py"),
    Bug(name="training beside a merge", path="services/broker/choosing.py",
        edits=(("            if row.state is JobState.RUNNING:\n", "            if row.state is JobState.HELD:\n"),),
        caught_by="tests/unit/services/broker/test_consolidating.py"),
    Bug(name="the newest whole backup pruned", path="shared/trainq/pruning.py",
        edits=(('        reasons[name].insert(0, "the newest that is whole")\n', "        pass\n"),),
        caught_by="tests/unit/trainq/test_pruning.py"),
    Bug(name="a fresh adapter of whatever comes", path="shared/trainq/ml/rebasing.py",
        edits=(("        determinism.seed(drawn_from)\n        loaded =", "        loaded ="),),
        caught_by="tests/unit/trainq/ml/test_consolidating.py::test_it_is_the_same_bytes_whoever_does_it"),
    Bug(name="off-by-one cursor", path="shared/trainq/ml/training.py",
        edits=(("        cursor = msgspec.structs.replace(cursor, token=job.token)\n",
                "        cursor = msgspec.structs.replace(cursor, token=job.token, job_step=cursor.job_step - 1)\n"),),
        caught_by=f"{TRAINING}::test_stopped_and_resumed_is_undisturbed"),
    Bug(name="dedupe against failed jobs", path="shared/trainq/jobs/states.py",
        edits=(("COUNTS_AS_DUPLICATE = frozenset({JobState.HELD,",
                "COUNTS_AS_DUPLICATE = frozenset({JobState.QUARANTINED, JobState.HELD,"),),
        caught_by="tests/unit/services/broker/test_desk.py"),
    Bug(name="promoted for a gain that was not tested", path="shared/trainq/promoting.py",
        edits=(("    better = rule.deciding and p_better < rules.alpha and seen.mean >= margin\n",
                "    better = rule.deciding and seen.mean >= margin\n"),),
        caught_by="tests/unit/trainq/test_promoting.py"),
    Bug(name="a guard that is passed by what was seen", path="shared/trainq/promoting.py",
        edits=(("    fall = seen.noise - seen.low\n", "    fall = seen.noise - seen.mean\n"),),
        caught_by="tests/unit/trainq/test_promoting.py"),
    Bug(name="a marked checkpoint promoted", path="shared/trainq/promoting.py",
        edits=(("    against = [_marked(challenger)] if challenger.marks else []\n    against += forgotten\n",
                "    against = list(forgotten)\n"),),
        caught_by="tests/unit/trainq/test_promoting.py"),
    Bug(name="promoted though a mastered level is forgotten", path="shared/trainq/promoting.py",
        edits=(("    against += forgotten\n", ""),),
        caught_by="tests/unit/services/evaluator/test_verdicts.py"),
    Bug(name="a redraw moves the level", path="shared/trainq/curriculum.py",
        edits=(("    if any(entry.level == score.level and entry.weights_digest == score.weights_digest for entry in "
                "standing.judged):\n", "    if False:\n"),
               ("    elif any(entry.moved and entry.weights_digest == score.weights_digest for entry in "
                "standing.judged):\n", "    elif False:\n")),
        caught_by="tests/unit/trainq/test_curriculum.py"),
    Bug(name="a level passed by its score, not by the bound", path="shared/trainq/curriculum.py",
        edits=(("        if not score.low > ladder.up:\n", "        if not score.score > ladder.up:\n"),),
        caught_by="tests/unit/trainq/test_curriculum.py"),
    Bug(name="a test of the wrong tail", path="shared/trainq/significance.py",
        edits=(("p_better=_above(tested, noise), p_worse=_above(fallen, noise),",
                "p_better=_above(fallen, noise), p_worse=_above(tested, noise),"),),
        caught_by="tests/unit/trainq/test_significance.py"),
    Bug(name="a scorer believed that finds every answer right", path="shared/trainq/scoring/proving.py",
        edits=(("    if shuffled > bound:\n", "    if False:\n"), ("    if blank > bound:\n", "    if False:\n")),
        caught_by="tests/unit/trainq/scoring/test_proving.py"),
    Bug(name="the champion removed by retention", path="shared/trainq/retention/stock.py",
        edits=((" for name in kept.champions}\n", " for name in kept.champions[:0]}\n"),),
        caught_by="tests/unit/trainq/retention/test_stock.py"),
    Bug(name="the pointer goes back", path="shared/trainq/publishing.py",
        edits=(("    if there is not None and there.moved.seq > pointer.moved.seq:\n", "    if False:\n"),),
        caught_by="tests/unit/trainq/test_publishing.py"),
    Bug(name="a pointer's word followed out of the place", path="shared/trainq/publishing.py",
        edits=(("        if name == pointer.folder or not _DIGEST.fullmatch(name) or not",
                "        if name == pointer.folder or not"),),
        caught_by="tests/unit/trainq/test_publishing.py"),
    Bug(name="held out by the draw of the reservoir", path="shared/trainq/rehearsal.py",
        edits=(('    return blake3(b"reservoir" + digest).digest()\n', "    return digest\n"),),
        caught_by="tests/unit/trainq/test_rehearsal.py"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, in which one bug at a time is planted and taken out again."""
    copied = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copied / name)
    # Taken only where its hash is that of the source: what has a bug in it is compiled anew.
    for name in ("services", "shared"):
        compileall.compile_dir(copied / name, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return copied


def test_without_a_bug_the_same_tests_pass(tree: Path) -> None:
    code, said = run_tests(tree, *sorted({bug.caught_by for bug in BUGS}))
    assert code == 0, said[-3000:]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, tree: Path) -> None:
    path = tree / bug.path
    clean = planted = path.read_text()
    for old, new in bug.edits:
        assert planted.count(old) == 1, f"stale: in {bug.path} the text {old!r} is there {planted.count(old)} times"
        planted = planted.replace(old, new)
    path.write_text(planted)
    try:
        code, said = run_tests(tree, bug.caught_by)
    finally:
        path.write_text(clean)
    # 1: tests ran and failed. 2 and more would mean that the bug broke the program before any test could look.
    assert code == 1, f"not caught, pytest's exit code {code}:\n{said[-3000:]}"


def test_the_table_in_the_docs_names_every_bug() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    for bug in BUGS:
        assert f"| {bug.name} |" in text, bug.name
        assert bug.caught_by.split("::")[0] in text, bug.caught_by
