"""A run described in a file or on a command line: what may be typed, and what is wrong with what was."""

from medrobust.config.data import EMBEDDED, DataConfig
from medrobust.config.model import ModelConfig, SurrogateConfig
from medrobust.config.reading import read_config, read_settings
from medrobust.config.run import RunConfig
from medrobust.config.threat import ThreatConfig

__all__ = [
    "EMBEDDED",
    "DataConfig",
    "ModelConfig",
    "RunConfig",
    "SurrogateConfig",
    "ThreatConfig",
    "read_config",
    "read_settings",
]
