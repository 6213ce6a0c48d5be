"""The section `data`: where the images are, and how they are read."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from medrobust.config.section import Section
from medrobust.data import DataOptions
from medrobust.errors import unknown

EMBEDDED = "embedded"


class DataConfig(Section):
    """Where the images are. Further keys are the options of `DataOptions`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    path: str = EMBEDDED

    def options(self, skip_bad: bool) -> DataOptions:
        """The other keys, for data of which bad samples are to be skipped or not.

        Raises:
            InputError: there is no such option, or it has no such value.
        """
        known = DataOptions.__dataclass_fields__
        given: dict[str, Any] = self.model_extra or {}
        for name in given:
            if name not in known:
                raise unknown("option of data", name, known)
        return DataOptions(**{"skip_bad": skip_bad, **given})
