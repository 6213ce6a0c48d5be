"""Foreign text in Markdown: what would be markup is made plain."""

from __future__ import annotations

import re

# "](" and "][" make links of what is in brackets; an interval "[0.5, 0.7]" is left as it is
_MARKUP = re.compile(r"[\\`*_<>|~$#]|(?<=\])[(\[:]")


def markdown_text(text: object) -> str:
    """The text on one line, with a backslash before everything that Markdown or a table of it would read as markup."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))
