"""One step as the guards have it: it is done, or what its fault asks for is decided and the loop goes round again.

The rules are :mod:`trainq.ml.guards`'. What changes the steps of a job is an effect, recorded before anything of it is
done: killed in between, the next life finds it in the journal, and does the same.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, NoReturn

import msgspec
import torch

from trainq.errors import InputError, MaskingError, MemoryShortError, SpoiledMemoryError, WeightsNotFiniteError
from trainq.jobs import Effect, EffectKind
from trainq.ml import guards, randomness, showing, stepping
from trainq.ml.guards import Answer, Reaction, State
from trainq.ml.metrics import StepMetrics
from trainq.shards import ShardRow, line_words, lines_words
from trainq.textcodec import TextCodec

if TYPE_CHECKING:
    from trainq.ml.training import Run


def begin(run: Run) -> None:
    """The job's first look, before a step of now is done.

    Begins with the micro-batches that have fitted into memory where those of the settings are larger.

    Raises:
        MaskingError: too little of the file is trained.
    """
    facts, settings = run.shard.facts, run.job.settings
    fault = guards.masking_fault(facts.trained_tokens, facts.tokens, run.job.guard)
    if fault:
        _refuse_masks(run, fault, [run.shard.row(0)])
    fits = run.job.fitting_rows
    at_once = min(run.effects.micro_batch_rows(0, settings.micro_batch_rows), settings.batch_rows)
    if not run.line.facts.cursor.job_step and 0 < fits < at_once:
        _decide(run, (Effect(kind=EffectKind.MICRO_BATCH, step=0, value=fits),),
                f"more than {fits} rows at once have not fitted into memory since this process began")


def step(run: Run) -> StepMetrics | None:
    """Do the cursor's step; None if it came to nothing, and the loop is to look again at what to do.

    Raises:
        InputError: the attempt has failed by the file's fault, or that of its settings.
    """
    line, settings = run.line, run.job.settings
    job_step = line.facts.cursor.job_step
    rows_at_once = min(run.effects.micro_batch_rows(job_step, settings.micro_batch_rows),
                       len(run.plan.rows_of_step(job_step)))
    before = randomness.remember()
    try:
        metrics = stepping.step(line, run.shard, run.plan, settings, rows_at_once)
    except stepping.StepFaultError as error:
        fault = error.with_traceback(None)
        # Their frames hold all that the step had in memory.
        fault.__cause__ = fault.__context__ = None
    else:
        name = _not_finite(line.model, trained_only=True) if job_step < run.search.until else ""
        if not name:
            run.search.suspect = None if run.search.suspect == job_step else run.search.suspect
            return metrics
        _suspect(run, name, job_step)
        return None
    line.optimizer.zero_grad(set_to_none=True)
    # The job may be left here, and published: what this attempt has drawn must be drawn again.
    randomness.go_back(before)
    match fault:
        case stepping.NotFiniteError():
            _leave_out(run, fault, job_step)
        case stepping.NoMemoryError():
            _take_fewer_rows(run, fault, job_step, rows_at_once)
        case stepping.MaskError():
            _refuse_masks(run, str(fault), fault.rows)
    return None


def judged(run: Run, metrics: StepMetrics) -> StepMetrics:
    """The step that was just done, compared with those before it; the line's facts are marked as it says."""
    found, facts = run.history.judge(metrics.loss, metrics.grad_norm), run.line.facts
    _mark(run, State.of(facts).after_step(facts.step, found, run.job.guard))
    return msgspec.structs.replace(metrics, grad_spike=found.grad_spike, out_of_band=found.out_of_band)


def refuse_bad(run: Run, metrics: StepMetrics) -> None:
    """Fail the attempt where the loss has left its band for long, if that is what the job's settings say.

    Raises:
        InputError: it has.
    """
    rules = run.job.guard
    if rules.on_band == "fail" and metrics.out_of_band >= rules.band_steps:
        raise InputError(f"the loss, {metrics.loss:.4g} at step {metrics.job_step}, has been out of its band for "
                         f"{metrics.out_of_band} steps",
                         mend="lower the learning rate, or look at the file; the band is [guard] band_factor's")


def take_back(run: Run, error: WeightsNotFiniteError) -> None:
    """The weights are no finite numbers any more: go back behind that, and look for the step that does it.

    Raises:
        SpoiledMemoryError: it has come again and again, and no step does it when it is done again.
    """
    run.pace.came_to_nothing()
    job_step = error.job_step if error.job_step is not None else run.line.facts.cursor.job_step
    run.search.until = max(run.search.until, job_step)
    _search(run, str(error))


def _search(run: Run, reason: str) -> None:
    run.search.times += 1
    if run.search.times > guards.MOST_SEARCHES:
        raise SpoiledMemoryError(f"{reason}; the line was taken back {guards.MOST_SEARCHES} times for it, and no step "
                                 "did it when it was done again",
                                 mend="look at the machine: its memory, its temperature, its GPU's errors")
    run.observer.taken_back(f"{reason}; the line is taken back to its newest generation, and the weights are looked at "
                            f"after each of the steps up to {run.search.until}")
    run.back_to_head()


def left_out(run: Run) -> None:
    """The batch of the cursor's step is left out: mark what follows."""
    _mark(run, State.of(run.line.facts).after_skip(run.line.facts.step, run.job.guard))


def _mark(run: Run, state: State) -> None:
    run.line.facts = msgspec.structs.replace(run.line.facts, marks=state.marks, settled_at=state.settled_at)


def _decide(run: Run, effects: tuple[Effect, ...], reason: str) -> bool:
    """Have it recorded; false, with nothing changed, if the job is to be left before."""
    if not run.observer.decide(effects, reason):
        return False
    run.effects.add(effects)
    return True


def _leave_out(run: Run, fault: stepping.NotFiniteError, job_step: int) -> None:
    # What is being written is the newest generation before anything is counted from that.
    run.settle(wait=True)
    if name := _not_finite(run.line.model, trained_only=False):
        # Then it is not this batch's fault.
        raise WeightsNotFiniteError("a weight is not a finite number any more", field=name)
    answer = guards.after_non_finite(run.job.guard, run.effects.left_out, job_step=job_step, head_step=run.head_step,
                                     planned=run.steps_planned)
    lines = lines_words(fault.lines[:32])
    if answer.reaction is Reaction.FAIL:
        raise InputError(f"{fault}; {answer.reason}", mend=f"lower the learning rate, or look at {lines}")
    _decide(run, _skipped(run, answer), f"{fault}; {answer.reason} ({lines})")
    if answer.reaction is Reaction.ROLL_BACK:
        # Also where the job is left before that is known to be recorded: it may be, and what would be published now
        # holds batches that are left out then.
        run.back_to_head()


def _suspect(run: Run, name: str, job_step: int) -> None:
    """The step that was just done has made this weight no finite number: what does so twice is left out."""
    fault = f"step {job_step + 1} makes a weight no finite number"
    if run.search.suspect != job_step:
        run.search.suspect = job_step
        _search(run, f"{fault} ({name})")
        return
    lines = lines_words(sorted(run.shard.row(row).line for row in run.plan.rows_of_step(job_step))[:32])
    answer = guards.after_bad_weights(run.job.guard, run.effects.left_out, job_step=job_step,
                                      planned=run.steps_planned)
    if answer.reaction is Reaction.FAIL:
        raise InputError(f"{fault}; {answer.reason}", field=name, mend=f"lower the learning rate, or look at {lines}")
    _decide(run, (Effect(kind=EffectKind.SKIP_BATCH, step=job_step, value=guards.SPOILS),),
            f"{fault} ({name}); {answer.reason} ({lines})")
    run.search.times = 0
    run.back_to_head()


def _not_finite(model: torch.nn.Module, *, trained_only: bool) -> str:
    """The name of a weight that is no finite number, or of a buffer that is no number; empty if there is none."""
    for name, weight in model.named_parameters():
        if (weight.requires_grad or not trained_only) and not bool(torch.isfinite(weight).all()):
            return name
    # A mask may well be infinite.
    buffers = () if trained_only else model.named_buffers()
    return next((name for name, buffer in buffers if bool(torch.isnan(buffer).any())), "")


def _skipped(run: Run, answer: Answer) -> tuple[Effect, ...]:
    return tuple(Effect(kind=EffectKind.SKIP_BATCH, step=step,
                        value=guards.GOOD if step in answer.good else guards.NOT_FINITE)
                 for step in answer.steps if not run.effects.skips(step))


def _take_fewer_rows(run: Run, fault: stepping.NoMemoryError, job_step: int, rows: int) -> None:
    _free_memory()
    fewer = guards.halved(rows)
    if not fewer:
        raise MemoryShortError(f"a single row does not fit into memory at step {job_step + 1}: {fault}",
                               mend="prepare the file for shorter rows, or take a smaller model")
    _decide(run, (Effect(kind=EffectKind.MICRO_BATCH, step=job_step, value=fewer),),
            f"{rows} rows at once do not fit into memory: {fewer} from step {job_step + 1} on, of the same batches")
    if fault.moved:
        # Also where the job is left now: what is in memory is the state of no step.
        run.back_to_head()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _refuse_masks(run: Run, fault: str, rows: list[ShardRow]) -> NoReturn:
    row = next((row for row in rows if row.trained.any()), rows[0])
    try:
        # The line's own tokenizer lies in its head.
        assert run.line.head is not None
        decode = TextCodec.load(run.home.checkpoints / run.line.head.name).decode
        text = showing.row(row, decode)
    except InputError as error:
        text = f"(it cannot be decoded: {error})"
    raise MaskingError(f"{fault}. {line_words(row.line).capitalize()}, with what is trained in {showing.BEGIN} "
                       f"{showing.END}: {text}",
                       mend="mend the file, or how [data] reads it, and submit it again")
