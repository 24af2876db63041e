"""The training process: what runs after the fork. The only one that publishes into ``checkpoints/``.

It takes the lock there after the fork (so that no descriptor of it is shared, and a successor waits until it is gone),
sweeps what a killed predecessor left half written, sets aside generations that do not verify, restores the newest that
does, says Ready, and then trains what it is told, one
job after the other, with the model kept in memory. It never waits for the agent: what the agent does not read in time
is progress that is dropped. SIGTERM and SIGINT are the agent's to act upon; the agent's death is this one's.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import time
from collections import deque
from pathlib import Path

import msgspec

from services.trainer import surroundings, wire
from services.trainer.failures import GroundLostError, failure, needs_new_process
from services.trainer.fitting import Fitting
from services.trainer.forking import Arguments
from services.trainer.observing import Observer, published_message
from services.trainer.rebaser import rebase
from services.trainer.restorer import restore
from trainq import checkpoints, crashpoints, diskfaults, files, gpu
from trainq.checkpoints import WeightsMissingError
from trainq.config import Home
from trainq.errors import DamageError, StorageError, TrainqError
from trainq.jobs import batches_left_out, cut_from
from trainq.messages import MAX_DAMAGED, DamagedGeneration
from trainq.ml import checkpointing, determinism, line, model, stepfaults, training, writing
from trainq.ml.checkpointing import Publication
from trainq.ml.line import ModelLine
from trainq.ml.training import Wish

# How long the last words may take to be read at the end.
_FAREWELL_SECONDS = 10.0
_MAX_REASON_CHARACTERS = 200


class AgentGoneError(Exception):
    """The other end of the channel is closed: nobody is there to train for."""


class NothingVerifiesError(DamageError):
    """There are checkpoints, and none of them verifies."""


def main(end: socket.socket, arguments: Arguments) -> int:
    """Serve the agent at the other end of ``end``; gives the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    channel = wire.Channel(end, wire.ToTraining)
    try:
        surroundings.redirect_output(Path(arguments.log))
        crashpoints.arm_from_environment(os.environ, "training")
        diskfaults.arm_from_environment(os.environ)
        stepfaults.arm_from_environment(os.environ)
        surroundings.dump_stacks_on_signal(arguments.stacks)
        TrainingProcess(channel, Home(Path(arguments.home)), arguments).serve()
        code = 0
    except AgentGoneError:
        return 0
    except TrainqError as error:
        # Outside of a job whatever is known to be wrong is the machine's: its disk, its mounts, its configuration.
        channel.send(msgspec.structs.replace(failure("", error), system=True))
        code = error.exit_code
    except Exception as error:
        channel.send(failure("", error))
        code = TrainqError.exit_code
    _farewell(channel)
    return code


class TrainingProcess:
    """Owns the model line. One thread."""

    def __init__(self, channel: wire.Channel, home: Home, arguments: Arguments) -> None:
        self._channel, self._home, self._arguments = channel, home, arguments
        self._orders: deque[wire.ToTraining] = deque()
        self._fitting = Fitting(functools.partial(gpu.used_by_others, arguments.foreign_mib))

    def serve(self) -> None:
        """Restore or begin the line, and train what comes until told to stop."""
        model.silence_libraries()
        determinism.enforce()
        determinism.set_threads(self._arguments.threads)
        lock = surroundings.wait_for_lock(self._home)
        files.sweep_temporaries(self._home.checkpoints, self._home.root)
        opened = self._open_line_or_wait()
        if opened is None:
            return
        self._line = opened
        while not isinstance(order := self._next_order(), wire.Stop):
            match order:
                case wire.Train():
                    self._train(order)
                case wire.Cancel():
                    self._cancel(order)
                case wire.Restore():
                    if self._restored(order):
                        self._line.release()
                        self._line = self._open_line()
                case wire.Rebase():
                    if rebase(self._line, self._home, order, self.wish, self.say):
                        self._line = self._open_line()
                case wire.Begin():
                    self._begin()
                case wire.Keep():
                    self._keep(order)
                case wire.Recorded() | wire.Checkpoint():
                    pass  # the job that it was for was left meanwhile, or has published all
        lock.release()

    def _open_line_or_wait(self) -> ModelLine | None:
        """The line; while nothing verifies, what a restore brings back. None when told to stop before there was any."""
        while True:
            try:
                return self._open_line()
            except NothingVerifiesError as error:
                self.say(wire.NoLine(reason=str(error)))
            bad = checkpoints.list_generations(self._home.checkpoints)
            restored = False
            while not restored:
                match self._next_order():
                    case wire.Restore() as order:
                        restored = self._restored(order)
                    case wire.Cancel() as order:
                        self.say(wire.Cancelled(job=order.job, taken_back=0))
                    case wire.Rebase() as order:
                        self.say(wire.Failed(job=order.job, system=False, code=DamageError.code,
                                             reason="there is no model line that could go on from it"))
                    case wire.Stop():
                        return None
                    case _:
                        pass  # about a job that was given back when this process had no line for it
            for path in bad:
                if path.is_dir() and not _verifies(path):
                    checkpoints.set_aside(path)

    def _restored(self, order: wire.Restore) -> bool:
        return restore(self._home, order, self.wish, self.say)

    def _open_line(self) -> ModelLine:
        started = time.monotonic()
        try:
            found, reasons = checkpoints.newest_verified(self._home.checkpoints)
        except WeightsMissingError as error:
            # A restore brings them back, or a person: what is built on them stays as good as it is.
            raise NothingVerifiesError(str(self._home.checkpoints), error.args[0], mend=error.mend) from error
        if found is None and (reasons or checkpoints.list_set_aside(self._home.checkpoints)):
            # Beginning anew would silently drop all that was learned.
            newest = f"; the newest: {reasons[0].reason}" if reasons else ""
            raise NothingVerifiesError(
                str(self._home.checkpoints), f"none of its checkpoints verifies{newest}",
                mend="trainq restore NAME goes back to a snapshot (trainq snapshot list); or bring one back, and "
                     "supervisorctl restart trainer")
        damaged = self._set_aside(reasons)
        if found is None:
            opened = line.begin(self._arguments.model, self._arguments.seed, self._arguments.lora)
        else:
            opened = checkpointing.restore(found)
        if self._arguments.gpu_required:
            surroundings.refuse_processor(opened.accelerator.device.type)
        if found is not None:
            writing.point_current_at(self._home, found.facts)
        self._say_ready(opened, damaged, started, found.size_bytes if found is not None else 0)
        return opened

    def _begin(self) -> None:
        """Publish the new line: the broker, too, knows of nothing that could be lost by it."""
        if self._line.head is None:
            started = time.monotonic()
            self.say(wire.Saving(size_bytes=self._line.checkpoint_bytes))
            publication = checkpointing.publish(self._line, self._home, "initial")
            self._say_ready(self._line, [], started, publication.size_bytes)

    def _say_ready(self, opened: ModelLine, damaged: list[DamagedGeneration], started: float, size_bytes: int) -> None:
        head = opened.facts
        self._channel.send(wire.Ready(
            fingerprint=determinism.fingerprint(opened.accelerator.device), head=head.name, generation=head.generation,
            step=head.step, journal_seq=head.journal_seq, reason=head.reason, begun=opened.head is None,
            job=head.cursor.job, job_step=head.cursor.job_step, steps_planned=head.cursor.steps_planned,
            job_done=head.cursor.done, damaged=damaged, seconds=round(time.monotonic() - started, 3),
            size_bytes=size_bytes, made_by=head.made_by, restored_from=head.restored_from,
            effects=head.cursor.effects, marks=head.marks))

    def _set_aside(self, reasons: list[DamageError]) -> list[DamagedGeneration]:
        """Put away what is newer than the head and does not verify; gives everything that was ever put away.

        Args:
            reasons: why each of the newest generations does not verify, newest first.
        """
        folder = self._home.checkpoints
        newer = checkpoints.list_generations(folder)[:len(reasons)]
        now = {}
        for path, reason in zip(newer, reasons, strict=True):
            surroundings.note(f"set aside: {reason}\n")
            now[checkpoints.set_aside(path)] = str(reason)[:4096]
        return [DamagedGeneration(generation=name.generation, name=path.name,
                                  reason=now.get(path, "it was set aside before")[:_MAX_REASON_CHARACTERS])
                for name, path in checkpoints.list_set_aside(folder)][-MAX_DAMAGED:]

    def _train(self, order: wire.Train) -> None:
        job = training.Job(id=order.job, token=order.token, shard=Path(order.shard), shard_digest=order.shard_digest,
                           settings=order.settings, journal_seq=order.journal_seq, effects=order.effects,
                           name=order.name, digest=order.digest, guard=order.guard,
                           fitting_rows=self._fitting.job_begins())
        self._line.generation_floor = order.newest
        try:
            self._take_back_unfinished(order.job)
            outcome = training.train(self._line, job, self._home, Observer(self, order.job))
        except AgentGoneError:
            raise
        except Exception as error:
            self._fail(order.job, error)
            return
        if outcome.ending is training.Ending.FINISHED:
            self._say_finished(outcome.first_loss, outcome.last_loss)
        # A cancel or a stop still waits among the orders.

    def _take_back_unfinished(self, next_job: str) -> None:
        """The line is in another job that did not end: that one begins again later, so its steps go out first.

        A job that was given back (its lease lost, its agent restarted) comes again at the head of the queue and just
        goes on. One that the broker has moved behind others would be trained twice.
        """
        cursor = self._line.facts.cursor
        if cursor.job not in ("", next_job) and not cursor.done:
            self._take_back()

    def _take_back(self) -> None:
        """Take the cursor's job out of the line.

        Raises:
            GroundLostError: the state before it does not verify. Neither that state nor anything built on it can be
                gone on from, so all of it is set aside; the next process finds what is left, and the broker what it
                lacks.
        """
        head = self._line.head
        try:
            self._line, publication = checkpointing.take_back(self._line, self._home)
        except DamageError as error:
            assert head is not None
            wanted = head.base if head.cursor.job == self._line.facts.cursor.job else head.name
            if not (self._home.checkpoints / wanted).is_dir():
                # What is missing is not damaged: it may come back, and what was built on it is still good then.
                raise StorageError(f"{wanted}, on which {self._line.facts.cursor.job} was begun, is missing",
                                   mend="bring it back to checkpoints/") from error
            ground = checkpoints.parse_name(wanted)
            # The newest first: killed in between, what is left is a head and its ground, or found damaged again.
            for path in checkpoints.list_generations(self._home.checkpoints):
                name = checkpoints.parse_name(path.name)
                if name is not None and (ground is None or name.generation >= ground.generation):
                    checkpoints.set_aside(path)
            raise GroundLostError(str(error)) from error
        if publication is not None:
            self._say_published(publication)

    def _fail(self, job: str, error: Exception) -> None:
        """Say it, and forget whatever the failed step did to the model in memory."""
        told = failure(job, error, foreign_mib=self._arguments.foreign_mib)
        self._channel.send(told)
        surroundings.note(told.traceback)
        if needs_new_process(error) or self._line.is_released:
            raise error
        assert self._line.head is not None
        self._line = checkpointing.restore_instead(
            self._line, checkpoints.verify(self._home.checkpoints / self._line.head.name))

    def _keep(self, order: wire.Keep) -> None:
        """The job has ended, or was left with nothing of it to keep; else it has answered this itself."""
        cursor = self._line.facts.cursor
        if cursor.job == order.job and cursor.done:
            return  # which was said
        self._cancel(wire.Cancel(job=order.job))

    def _cancel(self, order: wire.Cancel) -> None:
        job, cursor = order.job, self._line.facts.cursor
        self._line.generation_floor = max(self._line.generation_floor, order.newest)
        if cursor.job == job and cursor.done:
            self._say_finished(None, None)  # too late: all of it is published
            return
        taken_back = cursor.job_step if cursor.job == job else 0
        if cursor.job == job:
            try:
                self._take_back()
            except AgentGoneError:
                raise
            except Exception as error:
                # The disk, the driver, or a generation that is gone: never the file's fault, and tried again.
                self._channel.send(msgspec.structs.replace(failure(job, error), system=True))
                if needs_new_process(error) or self._line.is_released:
                    raise
                return
        self._channel.send(wire.Cancelled(job=job, taken_back=taken_back))

    @property
    def holds_on_other_fingerprint(self) -> bool:
        """Whether a person is to decide before anything is computed on other ground."""
        return self._arguments.on_fingerprint_change == "hold"

    def wait_until_recorded(self, job: str) -> bool:
        """Wait until what was said last is in the journal; false if the job is to be left before."""
        recorded = wire.Recorded(job=job)
        while recorded not in self._orders:
            self._hear()
            if self._strongest_wish(job) in (Wish.STOP, Wish.CANCEL):
                return False
            if recorded not in self._orders:  # it may have been heard just now
                self._wait_for_orders()
        self._orders.remove(recorded)
        return True

    def fitted(self, rows: int) -> None:
        """So many rows at once are to fit into memory, where more have not."""
        self._fitting.fitted(rows)

    def wish(self, job: str) -> Wish:
        """What the waiting orders mean for the running job; the strongest of them. A checkpoint is wished for once."""
        self._hear()
        wish = self._strongest_wish(job)
        if wish is Wish.CHECKPOINT:
            self._orders.remove(wire.Checkpoint(job=job))
        return wish

    def _strongest_wish(self, job: str) -> Wish:
        wishes = {Wish.GO_ON}
        for order in self._orders:
            match order:
                case wire.Stop():
                    wishes.add(Wish.STOP)
                case wire.Cancel() if order.job == job:
                    wishes.add(Wish.CANCEL)
                case wire.Keep() if order.job == job and self._line.facts.cursor.job_step >= order.step:
                    wishes.add(Wish.KEEP)
                case wire.Checkpoint() if order.job == job:
                    wishes.add(Wish.CHECKPOINT)
        return max(wishes, key=list(Wish).index)

    def say(self, message: wire.WireMessage) -> None:
        """Tell the agent, without waiting."""
        self._channel.send(message)

    def _say_published(self, publication: Publication) -> None:
        self.say(published_message(publication))

    def _say_finished(self, first_loss: float | None, last_loss: float | None) -> None:
        facts = self._line.facts
        self.say(wire.Finished(
            job=facts.cursor.job, steps_done=facts.cursor.job_step, steps_planned=facts.cursor.steps_planned,
            global_step=facts.step, generation=facts.generation, checkpoint=facts.name, first_loss=first_loss,
            last_loss=last_loss,
            cut_from=cut_from(facts.cursor.effects),
            batches_left_out=batches_left_out(facts.cursor.effects, facts.cursor.job_step)))

    def _next_order(self) -> wire.ToTraining:
        """Wait for an order."""
        while not self._orders:
            self._wait_for_orders()
        return self._orders.popleft()

    def _wait_for_orders(self) -> None:
        poller = select.poll()
        poller.register(self._channel.fileno(),
                        select.POLLIN if self._channel.flush() else select.POLLIN | select.POLLOUT)
        poller.poll()
        self._hear()

    def _hear(self) -> None:
        for order in self._channel.receive():
            assert isinstance(order, wire.ToTraining)
            self._orders.append(order)
        if self._channel.closed:
            raise AgentGoneError


def _verifies(path: Path) -> bool:
    try:
        checkpoints.verify(path)
    except DamageError:
        return False
    except WeightsMissingError:
        pass  # which is no damage
    return True


def _farewell(channel: wire.Channel) -> None:
    """Give the agent time to read the last words."""
    deadline = time.monotonic() + _FAREWELL_SECONDS
    while not channel.flush() and not channel.closed and (left := deadline - time.monotonic()) > 0:
        select.select([], [channel.fileno()], [], left)
