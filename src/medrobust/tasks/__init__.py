"""Tasks: what an attack must know of a model's outputs and the truth."""

from medrobust.tasks.classification import Classification
from medrobust.tasks.detection import Detection
from medrobust.tasks.outputs import changed, detached, finite_images, halves, merged, picked
from medrobust.tasks.placement import Placement
from medrobust.tasks.segmentation import Segmentation
from medrobust.tasks.task import Divergence, Task, kl_divergence, position_mean

__all__ = [
    "Classification",
    "Detection",
    "Divergence",
    "Placement",
    "Segmentation",
    "Task",
    "changed",
    "detached",
    "finite_images",
    "halves",
    "kl_divergence",
    "merged",
    "picked",
    "position_mean",
]
