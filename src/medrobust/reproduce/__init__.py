"""The experiment of SMIA's paper as one command: three tasks, six attacks, the same budgets, several runs.

Qi, Gong, Song, Ma, Zheng: Stabilized Medical Image Attacks, ICLR 2021, arXiv 2103.05232, section 4. The paper's own
models, budgets and result tables were not available to the authors of this package: what is repeated is the design.
"""

from medrobust.reproduce.benchmarks import Benchmark, small_benchmarks, standard_benchmarks
from medrobust.reproduce.experiment import Experiment, Outcome, conduct

__all__ = ["Benchmark", "Experiment", "Outcome", "conduct", "small_benchmarks", "standard_benchmarks"]
