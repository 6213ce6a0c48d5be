"""What a user can get wrong, told in one line.

Every error a user can cause is a `MedrobustError`: its message names the file, row and field where there
are such, says what was wrong and what to do. The command line prints it without a traceback and exits 2.
"""

import difflib
from collections.abc import Iterable


class MedrobustError(Exception):
    """Base of every error that the user, not the program, can mend."""


class MedrobustWarning(UserWarning):
    """Something that works, but hardly as the user means it."""


class InputError(MedrobustError, ValueError):
    """A value, file, option or tensor that cannot be used as it is."""


class BadSampleError(InputError):
    """One image or its truth cannot be read; `--skip-bad` leaves it out and lists it."""


class MissingExtraError(MedrobustError, ImportError):
    """An optional package is needed; the message gives the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'medrobust[{extra}]'")


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a catalogue, with the nearest one that is."""
    names, written = sorted(known), name.lower()

    def common(other: str) -> int:
        """Letters in common."""
        return sum(block.size for block in difflib.SequenceMatcher(None, written, other).get_matching_blocks())

    near = difflib.get_close_matches(written, names, n=5, cutoff=0.5)
    if not near:
        return InputError(f"unknown {kind} {name!r}: known: {', '.join(names)}")
    # difflib prefers the shorter name: of those that have as much in common "stepz" is "steps", not "step"
    likely = [other for other in near if common(other) == common(near[0])]
    meant = min(likely, key=lambda other: abs(len(other) - len(written)))
    return InputError(f"unknown {kind} {name!r}: did you mean {meant!r}?")
