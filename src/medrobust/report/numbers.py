"""How figures and foreign text are written, in one place."""

from __future__ import annotations

import unicodedata

# Marks that turn the direction of the text after them: in a label they could make a report read otherwise.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
NONE = "–"
NO_INTERVAL = f"[{NONE}]"
_METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "F1": "image F1",
    "false positives": "false positives per image",
    "misses": "misses per image",
    "hd95": "HD95 (mm)",
    "surface dice": "surface Dice",
}


def format_change(size: float | None, unit: str) -> str:
    """A measured L∞ of the change: HU to one decimal, else in grey levels, "3.9/255"."""
    if size is None:
        return NONE
    if unit == "HU":
        return f"{size:.1f} HU"
    return f"{size * 255:.1f}".removesuffix(".0") + "/255"


def format_value(value: float | None, digits: int = 2) -> str:
    """A metric with a fixed number of decimals and a real minus sign."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def format_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """For instance "[0.55, 0.69]", or nothing when there is no interval."""
    return "" if low is None or high is None else f"[{format_value(low, digits)}, {format_value(high, digits)}]"


def format_p_value(p_value: float) -> str:
    """For instance "p = 0.0312" or "p < 0.001"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3g}"


def format_norm(norm: str) -> str:
    """The norm as it is printed: "L∞" for "linf"."""
    return {"linf": "L∞", "l1": "L1", "l2": "L2"}.get(norm, norm)


def plain(text: str, limit: int = 60) -> str:
    """A foreign label made fit to show: no control characters, no turning of direction, not endless."""
    kept = [
        " " if character.isspace() else character
        for character in text
        if character.isspace()
        or (unicodedata.category(character) not in {"Cc", "Cs"} and character not in _BIDI_CONTROLS)
    ]
    shown = "".join(kept)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def listed(items: list[str], last: str = "and") -> str:
    """Items joined as in "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 image", "1,000 images"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def metric_name(metric: str) -> str:
    """A metric as it is written in a sentence."""
    return _METRICS.get(metric, metric)


def metric_heading(metric: str) -> str:
    """A metric as it begins a sentence or heads a column: "Accuracy", but "mAP"."""
    name = metric_name(metric)
    return name if name.startswith("mAP") else name[0].upper() + name[1:]


def as_float(value: object) -> float | None:
    """A value as a number, or None when it is none."""
    return float(value) if isinstance(value, float | int) else None
