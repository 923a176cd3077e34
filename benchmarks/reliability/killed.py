"""`kill -9` at random moments, then the same command again: it ends as if nothing had happened.

What was committed before the kill (shards, cells, checkpoints, archived videos) must still be there after the end, the
same bytes or values; where a run stands must never fall behind what it had kept; what the killed process had started
must end by itself.
"""

from __future__ import annotations

import shutil

from benchmarks.reliability.commands import Ended, Started, left_behind, prismhub
from benchmarks.reliability.jobs import JOBS, Job, Place
from benchmarks.reliability.tally import Ground, Tally

KILLS = 20
LEAST_S = 0.02  # a process that lives shorter has not begun


def killed(job: str, ground: Ground) -> Tally:
    """Kill the command of a job, at moments spread over the time that it takes undisturbed."""
    return _Trials(JOBS[job](), ground).run()


class _Trials:
    def __init__(self, job: Job, ground: Ground) -> None:
        self.job, self.ground, self.tally = job, ground, Tally()
        self.data = ground.folder / "data"

    def run(self) -> Tally:
        self.job.prepare(self.data, self.ground)
        calm = self._place("calm")
        undisturbed = prismhub(*self.job.words(self.data, calm), home=calm.home)
        self.tally.faults += undisturbed.faults(0)
        if self.tally.faults:
            return self.tally
        wanted = self.job.end(calm, undisturbed)
        kills, moments = self.ground.many(max(1, round(KILLS * self.ground.length)), 1), []
        committed = 0
        for number in range(kills):
            share = (number + self.ground.chance(self.job.name, number).random()) / kills
            place = self._place(str(number))
            moment = self._kill(place, share * undisturbed.seconds)
            moments.append(moment)
            kept = self.job.kept(place)
            committed += bool(kept) or self.job.stands(place) > 0
            faults = self._again(place, kept, wanted)
            self.tally.count([f"killed after {moment:.2f} s ({place.folder}): {fault}" for fault in faults])
            self.ground.say(f"  {number + 1} of {kills}: killed after {moment:.2f} s: {faults or 'survived'}")
            if not faults:
                shutil.rmtree(place.folder)
        self.tally.measured |= {
            "undisturbed, s": round(undisturbed.seconds, 1),
            "killed after, s": f"{min(moments):.1f} to {max(moments):.1f}",
            "killed with something committed": committed,
        }
        return self.tally

    def _place(self, name: str) -> Place:
        place = Place(self.ground.folder / name)
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir()
        self.job.furnish(self.data, place)
        return place

    def _kill(self, place: Place, moment: float) -> float:
        """Kill the command after so many seconds, or earlier where it would have ended by then; when it was."""
        while True:
            running = Started(self.job.words(self.data, place), place.home)
            if running.wait(max(moment, LEAST_S)):  # faster than undisturbed
                running.end()
                place = self._place(place.folder.name)
                moment *= 0.9
                continue
            running.kill()
            running.end()
            return moment

    def _again(self, place: Place, kept: dict[str, str], wanted: dict[str, str]) -> list[str]:
        """What is wrong with the same command again, after a kill."""
        faults = [f"process {one} ran on without its parent" for one in left_behind(place.home)]
        stood = self.job.stands(place)
        fell: set[int] = set()

        def watch() -> None:
            if (now := self.job.stands(place)) < stood:
                fell.add(now)

        ended: Ended = Started(self.job.words(self.data, place), place.home).end(watch=watch)
        faults += ended.faults(0)
        if faults:
            return faults
        now = self.job.kept(place)
        lost = [name for name, content in kept.items() if now.get(name) != content]
        if fell:
            lost.append(f"where it stood: {stood}, then {min(fell)}")
        self.tally.lost += len(lost)
        faults += [f"committed, and gone or another: {name}" for name in lost[:5]]
        return faults + differences(wanted, self.job.end(place, ended))


def differences(wanted: dict[str, str], found: dict[str, str], most: int = 5) -> list[str]:
    """How what was found differs from what an undisturbed run makes."""
    rows = [f"missing: {name}" for name in sorted(wanted.keys() - found.keys())]
    rows += [f"more than undisturbed: {name}" for name in sorted(found.keys() - wanted.keys())]
    rows += [
        f"not as undisturbed: {name}" for name in sorted(wanted.keys() & found.keys()) if wanted[name] != found[name]
    ]
    return rows[:most] + ([f"and {len(rows) - most} more"] if len(rows) > most else [])
