"""What every page gets: the open scenario, results (kept, or worked out by the worker processes) and the locale."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from envelope.dashboard import tasks
from envelope.dashboard.figures import Figures
from envelope.dashboard.jobs import Job, State, fingerprint, workers
from envelope.dashboard.opened import Opened
from envelope.dashboard.worker import Order
from envelope.spec.data_version import data_version
from envelope.spec.scenario import Scenario

if TYPE_CHECKING:
    from envelope.plan.cost.study import CostStudy
    from envelope.plan.verdict.results import Comparison

_POLL_S = 0.05
_QUICK_S = 0.8
"""Waiting time after which a progress bar appears; a bar that flashes up is worse than none."""
_BAR_S = 0.3
"""Time between two changes of the bar: each is drawn by a browser, often on the processor that does the work."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of long work and what it is called on the page."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    label: str
    affinity: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """The scenario that is open in this session and its results."""

    opened: Opened
    scenario: Scenario
    """The open scenario, valid."""
    figures: Figures
    """Numbers as the reader's locale writes them."""
    session: str
    """Id of this browser tab's session."""
    data_version: str = field(default_factory=data_version)
    """Version of the facts that results rest on."""

    @property
    def key(self) -> str:
        """Content hash of the scenario, evidence included; equal content has an equal hash."""
        return fingerprint(self.scenario)

    def comparison(self) -> "Comparison":
        """Return the verdicts on all candidates, without fixes. Raises ``InputError`` for missing prices."""
        return self.comparison_of(self.scenario)

    def comparison_of(self, scenario: Scenario) -> "Comparison":
        """Return the verdicts on another scenario's candidates, such as a changed one.

        Candidates are worked out side by side, and each is kept by what it depends on: a change of one candidate
        leaves the others as they are.
        """
        found = self.wait(self.candidate_jobs(scenario))
        # Imported while nothing waits for it: it takes as long as the workers' own start.
        from envelope.plan.verdict.choice import verdict

        return verdict(scenario, found)

    def candidate_jobs(self, scenario: Scenario) -> list[Job]:
        """Return the jobs that find the verdict on each candidate of a scenario, started now unless they are kept."""
        return [
            self.job(tasks.candidate, alone(scenario, c.id), c.id, label=c.name, affinity=c.id)
            for c in scenario.candidates
        ]

    def costs(self, baseline: str | None = None) -> "CostStudy":
        """Return the cost study with its ranges; ``baseline`` is the candidate that savings count against."""
        study: CostStudy = self.result(
            tasks.cost_study, self.scenario, baseline, label="Costs over the years", affinity="costs"
        )
        return study

    def result(self, function: Callable[..., Any], *args: Any, label: str, affinity: str = "", **options: Any) -> Any:
        """Return what a function of records returns, kept or worked out now behind a progress bar.

        The function must be importable and take ``progress``. Raises ``InputError`` as the function does and
        ``JobError`` if it crashes.
        """
        return self.wait([self.job(function, *args, label=label, affinity=affinity, **options)])[0]

    def job(self, function: Callable[..., Any], *args: Any, label: str, affinity: str = "", **options: Any) -> Job:
        """Return the job of a call, started now unless it is kept or runs already."""
        return self._submit(Call(function, args, label, affinity, options))

    def _submit(self, call: Call, *, lasting: bool = False) -> Job:
        key = self.job_key(call.function, *call.args, **call.options)
        order = Order(call.function, call.args, call.options, self.data_version)
        return workers().submit(
            key, order, label=call.label, affinity=call.affinity, watcher=self.session, lasting=lasting
        )

    def job_key(self, function: Callable[..., Any], *args: Any, **options: Any) -> str:
        """Return the key by which the result of a call is kept: its content and the data version."""
        name = f"{function.__module__}.{function.__qualname__}"
        named = (part for item in sorted(options.items()) for part in item)
        return fingerprint(name, *args, *named, self.data_version)

    def wait(self, jobs: Sequence[Job]) -> list[Any]:
        """Return the values of jobs, with a progress bar if that takes longer than a blink."""
        workers().make_room()
        place = st.empty()
        bar = None
        next_s = time.monotonic() + _QUICK_S
        for job in jobs:
            while not job.wait(_POLL_S):
                if time.monotonic() >= next_s:
                    next_s += _BAR_S
                    share = sum(1.0 if j.ended else j.progress.share for j in jobs) / len(jobs)
                    doing = next((j for j in jobs if j.state is State.RUNNING), job)
                    words = doing.progress.doing or doing.label
                    bar = bar or place.progress(0.0, words)
                    bar.progress(min(max(share, 0.0), 1.0), words)
        place.empty()
        return [job.value() for job in jobs]

    def background(
        self,
        function: Callable[..., Any],
        *args: Any,
        label: str,
        start: str | None,
        key: str,
        affinity: str = "",
        **options: Any,
    ) -> Any:
        """Return the result of long work, or ``None`` while there is none; the page stays usable meanwhile.

        ``start`` is the label of the button that starts it, ``None`` to start at once. While it runs a panel shows its
        progress and a button to cancel it. ``key`` names the panel on the page.
        """
        return self.background_all([Call(function, args, label, affinity, options)], start=start, key=key)[0]

    def background_all(self, calls: Sequence[Call], *, start: str | None, key: str) -> list[Any]:
        """Return the results of several calls of long work as ``background`` does, ``None`` for those without one."""
        found = [workers().find(self.job_key(c.function, *c.args, **c.options)) for c in calls]
        cancelled = any(job is not None and job.state is State.CANCELLED for job in found)
        if any(job is None or job.state is State.CANCELLED for job in found):
            words = start or (f"Start again: {calls[0].label}" if cancelled else None)
            if words is None or st.button(words, key=f"{key}-start", type="primary"):
                found = [self._submit(call, lasting=True) for call in calls]
        started = [job for job in found if job is not None and job.state is not State.CANCELLED]
        if not all(job.ended for job in started):
            _panel(started, self.session, key)
        return [job.value() if job is not None and job in started and job.ended else None for job in found]


def alone(scenario: Scenario, ident: str) -> Scenario:
    """Return a scenario with one candidate and without the words that no result depends on."""
    chosen = tuple(c for c in scenario.candidates if c.id == ident)
    return _wordless(scenario.changed(candidates=chosen))


def _wordless(scenario: Scenario) -> Scenario:
    return scenario.changed(story="", question="")


@st.fragment(run_every=0.5)
def _panel(jobs: Sequence[Job], session: str, key: str) -> None:
    """Draw the progress of jobs until the last has ended."""
    running = next((job for job in jobs if job.state is State.RUNNING), jobs[0])
    if all(job.ended for job in jobs):
        st.rerun()
    share = sum(1.0 if job.ended else min(max(job.progress.share, 0.0), 1.0) for job in jobs) / len(jobs)
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(share, f"{running.label}: {running.progress.doing}")
    if button.button("Cancel", key=f"{key}-cancel"):
        for job in jobs:
            workers().cancel(job, session)
            job.wait(2.0)
        st.rerun()
