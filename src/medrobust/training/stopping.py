"""Why a training ends before its last step: it gets worse, or Ctrl-C, at a moment that suits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medrobust.training.course import Course, Seen

FALLEN = 0.5  # of the best figure under attack: less is a catastrophe, not the noise of a validation


def reason_to_stop(course: Course, seen: Seen, best: Seen, per_epoch: int) -> str | None:
    """In a sentence, after the validation `seen`; None to go on.

    Args:
        course: whose method may fail at once, and whose patience may end.
        seen: the last validation.
        best: that of the best figure under attack so far.
        per_epoch: steps of an epoch.
    """
    if course.method.single_step and seen.attacked < FALLEN * best.attacked:
        return (
            f"catastrophic overfitting: under attack {seen.attacked:.2f} was left after {seen.step} steps, "
            f"{best.attacked:.2f} after {best.step}"
        )
    patience = course.how.patience * per_epoch
    if patience and seen.step - best.step >= patience:
        return f"no better figure under attack since step {best.step}"
    return None


@contextmanager
def stop_heard() -> Iterator[Callable[[], bool]]:
    """Inside, a first Ctrl-C is only heard, which what is given tells; a second one interrupts as usual.

    In another thread than the main one, to which signals go, nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    heard = False

    def hear(*_: object) -> None:
        nonlocal heard
        if heard:
            raise KeyboardInterrupt
        heard = True

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: heard
    finally:
        signal.signal(signal.SIGINT, before)
