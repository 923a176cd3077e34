"""Calls of actors under way, each with what is to happen when it returns or when its actor has died."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gone:
    """There is no answer: the actor has died, or `is_argument`, what it was given went with another machine."""

    reason: str
    is_argument: bool = False


class ActorCalls:
    """The calls that a driver waits for, one after the other as they return."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._then: dict[Any, Callable[[Any], None]] = {}

    def __len__(self) -> int:
        return len(self._then)

    def add(self, answer: Any, then: Callable[[Any], None]) -> None:
        """Call `then` with the answer once it is there; with a `Gone` where there will be none."""
        self._then[answer] = then

    def cancel(self) -> None:
        """Want no answer any more: calls that wait for their turn are never made, those that run are told."""
        for answer in self._then:
            self._ray.cancel(answer)
        self._then.clear()

    def wait(self, timeout_s: float) -> None:
        """Deal with the calls that have returned, waiting for one of them.

        Raises:
            Exception: what a call raised.
        """
        waiting = list(self._then)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for answer in ready:
            self._then.pop(answer)(self._value(answer))

    def _value(self, answer: Any) -> Any:
        errors = self._ray.exceptions
        lost = (errors.ObjectLostError, errors.ObjectReconstructionFailedError, errors.OwnerDiedError)
        try:
            return self._ray.get(answer)
        except errors.RayTaskError as error:
            if isinstance(error.cause, lost):
                return Gone(_one_line(error.cause), is_argument=True)
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except lost as error:
            return Gone(_one_line(error), is_argument=True)
        except errors.RayActorError as error:
            return Gone(_one_line(error))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
