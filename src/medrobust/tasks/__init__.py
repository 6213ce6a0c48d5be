"""Tasks: what an attack must know of a model's outputs and the truth."""

from medrobust.tasks.classification import Classification
from medrobust.tasks.segmentation import Segmentation
from medrobust.tasks.task import Divergence, Task, kl_divergence, position_mean

__all__ = ["Classification", "Divergence", "Segmentation", "Task", "kl_divergence", "position_mean"]
