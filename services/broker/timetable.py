"""The timetable: asks for what the schedule wants when its time has come, exactly once for each slot.

That a slot fired and the task that it made are in one transaction, under the slot's own number; so neither a restart
nor a clock that jumps, back or forth, makes two of one. Of slots that passed unseen only the newest counts.
"""

from __future__ import annotations

from services.broker import scheduling, tasks
from services.broker.recording import Recorder
from trainq.clock import Clock
from trainq.config import ScheduleSettings
from trainq.config.schedules import following, latest, zone
from trainq.errors import RequestReusedError
from trainq.jobs import ENDED, JobSucceeded, ScheduleFired, ScheduleSet, ScheduleSkipped
from trainq.journal import Queries, Recorded
from trainq.messages import Schedules, ScheduleView, SubmitTask, scheduled_task

# When nothing could be recorded, or no slot is near: looked at again.
_AGAIN_SECONDS = 60.0


class Timetable:
    """Looks at the rules when a slot's time comes. Runs inside the app's transaction."""

    def __init__(self, queries: Queries, recorder: Recorder, settings: ScheduleSettings, clock: Clock) -> None:
        self._queries = queries
        self._recorder = recorder
        self._settings = settings
        self._clock = clock
        self._rules = {name: rule for name, rule in settings.all_rules.items() if rule.enabled and settings.enabled}
        self._zone = zone(settings)
        self._trained = queries.trained_count() if any(rule.after_jobs for rule in self._rules.values()) else 0
        # From when until when (wall seconds) nothing is to be done; a clock that is set back is before it.
        self._quiet = (0.0, 0.0)

    @property
    def is_due(self) -> bool:
        """Whether :meth:`tick` may have something to do."""
        return bool(self._rules) and not self._quiet[0] <= self._clock.wall() < self._quiet[1]

    @property
    def seconds_left(self) -> float:
        """How long nothing is to be done, as far as is known."""
        if not self._rules:
            return _AGAIN_SECONDS
        return 0.0 if self.is_due else self._quiet[1] - self._clock.wall()

    def committed(self, recorded: Recorded) -> None:
        """This event is on disk: one more file may be trained."""
        if isinstance(recorded.event, JobSucceeded) and recorded.event.job.startswith("train-"):
            self._trained += 1
            if any(rule.after_jobs for rule in self._rules.values()):
                self._quiet = (0.0, 0.0)

    def postpone(self) -> None:
        """What is due could not be recorded: some time later."""
        now = self._clock.wall()
        self._quiet = (now, now + _AGAIN_SECONDS)

    def tick(self) -> None:
        """Fire or skip every slot whose time has come."""
        if not self.is_due:
            return
        now = self._clock.wall()
        until = now + _AGAIN_SECONDS
        for name, rule in self._rules.items():
            slot = latest(rule, self._zone, now, self._trained)
            text = " ".join(filter(None, (rule.task, rule.destination, scheduling.words(rule),
                                          self._settings.time_zone if rule.cron else "")))
            known = self._queries.schedule(name)
            if known is None or known.rule != text:
                self._recorder.append(ScheduleSet(name=name, rule=text, slot=slot or 0))
            elif slot is not None and not self._queries.is_slot_done(name, slot):
                why = scheduling.why_not(rule, slot, now=now, missed=self._settings.missed,
                                         open_job=self._open_job(known.job),
                                         has_model=bool(self._queries.line().checkpoint))
                why = why or self._fire(name, slot)
                if why:
                    self._recorder.append(ScheduleSkipped(name=name, slot=slot, reason=why))
            coming = None if rule.after_jobs else following(rule, self._zone, now, self._trained)
            until = until if coming is None else min(until, coming)
        self._quiet = (now, until)

    def _open_job(self, job: str) -> str:
        return job if job and self._queries.job(job).state not in ENDED else ""

    def _fire(self, name: str, slot: int) -> str:
        """Ask for the slot's task; why it cannot be asked for, if it cannot."""
        request = SubmitTask(request_id=f"schedule-{name}-{slot}", task=scheduled_task(self._rules[name]),
                             cause=f"schedule {name}")
        try:
            made = tasks.submit(request, earlier=self._queries.request(request.request_id),
                                line=self._queries.line())
        except RequestReusedError as error:
            return str(error)
        if not isinstance(made, str):
            self._recorder.append(made)
            made = made.job
        self._recorder.append(ScheduleFired(name=name, slot=slot, job=made))
        return ""


def listed(queries: Queries, settings: ScheduleSettings, now: float) -> Schedules:
    """All rules, with their next slot and what came of the last."""
    where = zone(settings)
    trained = queries.trained_count()
    views = []
    for name, rule in sorted(settings.all_rules.items()):
        if not rule.task:
            continue  # a default one that was turned off
        known = queries.schedule(name)
        enabled = settings.enabled and rule.enabled
        views.append(ScheduleView(
            name=name, task=rule.task, when=scheduling.words(rule), enabled=enabled,
            next_at=following(rule, where, now, trained) if enabled else None,
            last_slot=known.slot if known is not None and (known.job or known.reason) else None,
            last_job=known.job if known is not None else "",
            last_state=queries.job(known.job).state.value if known is not None and known.job else "",
            reason=known.reason if known is not None else ""))
    return Schedules(enabled=settings.enabled, time_zone=settings.time_zone, schedules=views)
