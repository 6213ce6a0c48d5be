"""SMIA on cases that can be worked on paper, and against a literal NumPy transcription of its objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.attacks import BIM, SMIA, Stabilized, TaskLoss
from medrobust.attacks.objectives import Iterate
from medrobust.errors import MedrobustWarning
from medrobust.tasks import Classification, Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim

WIDE = 1e6  # a sigma at which the three taps are 1/3 each


class Linear(nn.Module):
    """Logits W·x of an image's values in order."""

    def __init__(self, weights: list[list[float]], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weights.T


def row(*values: float) -> torch.Tensor:
    """A 1 × n image, float64: along its height of one, smoothing changes nothing."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


# On paper: x = (.2, .5, .8), reflected at the border, so S(x) = ((.5+.2+.5)/3, (.2+.5+.8)/3, (.5+.8+.5)/3)
# = (.4, .5, .6). Logits (0, m) with m = 2·x0 − x2: m = −.4 at x, m' = .2 at S(x). With y = 1 both terms have the
# gradient −(1 − p)·(2, 0, −1) and (p − q)·(2, 0, −1); only through S does the middle value get one,
# q(1 − q)(m' − m)·2/3 > 0, which the stabilization term pushes down.
W = [[0.0, 0.0, 0.0], [2.0, 0.0, -1.0]]
X = row(0.2, 0.5, 0.8)
Y = torch.tensor([1])


@pytest.mark.parametrize(
    ("through", "steps", "expected"),
    [
        (True, 1, (0.1, 0.4, 0.9)),
        (False, 1, (0.1, 0.5, 0.9)),
        # second step: m = −.7, m' = .0333 at (.1, .4, .9): the same signs, cut to the ball of .15
        (True, 2, (0.05, 0.35, 0.95)),
        (False, 2, (0.05, 0.5, 0.95)),
    ],
)
def test_two_steps_on_paper(through, steps, expected):
    attack = SMIA(steps=steps, step_size=0.1, a2=0.9, sigma=WIDE, through_target=through)
    result = attack(Victim(Linear(W), Classification(2)), X, Y, Threat(eps=0.15))
    assert result.adversarial.flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_stabilization_at_the_start_on_paper():
    attack = SMIA(steps=1, step_size=0.1, a2=0.9, sigma=WIDE, trace=True)
    trajectory = attack(Victim(Linear(W), Classification(2)), X, Y, Threat(eps=0.15)).trajectory
    p, q = 1 / (1 + np.exp(0.4)), 1 / (1 + np.exp(-0.2))
    kl = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    assert float(trajectory.stabilization[0]) == pytest.approx(kl, rel=1e-6)
    assert float(trajectory.deviation[0]) == pytest.approx(-np.log(p), rel=1e-6)
    assert float(trajectory.linf[1]) == pytest.approx(0.1, rel=1e-6)


# --- a literal transcription, in NumPy, of every form of the objective -------------------------------------------

TAPS = {sigma: np.exp(-(np.array([-1.0, 0.0, 1.0]) ** 2) / (2 * sigma**2)) for sigma in (0.7, 1.0)}


def smoothing_matrix(n: int, sigma: float) -> np.ndarray:
    kernel = TAPS[sigma] / TAPS[sigma].sum()
    matrix = np.zeros((n, n))
    for i in range(n):
        for offset, weight in zip((-1, 0, 1), kernel, strict=True):
            j = abs(i + offset)  # reflected at the left
            j = 2 * (n - 1) - j if j > n - 1 else j  # and at the right
            matrix[i, j] += weight
    return matrix


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def objective(x, seen_at, y, weights, smooth, option, clean, sign):
    """J(x') as the design has it, for one image and a linear model; S acts on `seen_at`."""
    p = softmax(weights @ x)
    seen = clean + smooth @ (seen_at - clean) if option["smooth"] == "perturbation" else smooth @ seen_at
    q = softmax(weights @ seen)
    distance = {
        "kl": (q * (np.log(q) - np.log(p))).sum(),
        "ce": -(q * np.log(p)).sum(),
        "hard": -np.log(p[q.argmax()]),
        "mse": ((p - q) ** 2).sum(),
    }[option["divergence"]]
    if option["stabilize"] == "once_fooled" and (q.argmax() != y) != (sign > 0):
        distance = 0.0
    return sign * option["a1"] * -np.log(p[y]) - option["a2"] * distance


def numeric_gradient(x, y, weights, smooth, option, clean, sign):
    """Central differences; a constant target stays where it is at x."""
    follows = option["through_target"] and option["divergence"] != "hard"
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        ends = []
        for h in (1e-6, -1e-6):
            moved = x.copy()
            moved[i] += h
            ends.append(objective(moved, moved if follows else x, y, weights, smooth, option, clean, sign))
        gradient[i] = (ends[0] - ends[1]) / 2e-6
    return gradient


@pytest.mark.parametrize("divergence", ["kl", "ce", "hard", "mse"])
@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("smooth", ["input", "perturbation"])
@pytest.mark.parametrize("stabilize", ["always", "once_fooled"])
@pytest.mark.parametrize("targeted", [False, True])
def test_two_l2_steps_against_numpy(divergence, through, smooth, stabilize, targeted):
    """L2 steps follow the gradient's every component, so its scale and direction are both held to."""
    rng = np.random.default_rng(5)
    weights, clean = rng.normal(size=(3, 7)) * 2, rng.uniform(0.3, 0.7, 7)
    option = {
        "a1": 1.0, "a2": 0.4, "divergence": divergence, "through_target": through, "smooth": smooth,
        "stabilize": stabilize,
    }  # fmt: skip
    y = int((weights @ clean).argmax())
    y, sign = ((y + 1) % 3, -1) if targeted else (y, 1)
    x, matrix = clean.copy(), smoothing_matrix(7, 0.7)
    for _ in range(2):
        gradient = numeric_gradient(x, y, weights, matrix, option, clean, sign)
        x = x + 0.04 * gradient / np.linalg.norm(gradient)
    attack = SMIA(steps=2, step_size=0.04, sigma=0.7, targeted=targeted, **option)
    victim = Victim(Linear(weights.tolist()), Classification(3))
    result = attack(victim, row(*clean), torch.tensor([y]), Threat(eps=0.5, norm="l2"))
    assert result.adversarial.flatten().numpy() == pytest.approx(x, abs=2e-8)


def test_released_variant_step_by_step():
    """Step 0 climbs L alone; step 1's target is argmax f(x'_0 + K ∗ step_0), of the previous iterate."""
    rng = np.random.default_rng(3)
    weights, clean = rng.normal(size=(3, 7)) * 3, rng.uniform(0.3, 0.7, 7)
    y, a2, matrix = int((weights @ clean).argmax()), 0.6, smoothing_matrix(7, 1.0)

    def gradient_of(x, hard):
        p = softmax(weights @ x)
        onto = np.eye(3)
        g = weights.T @ (p - onto[y])
        return g if hard is None else g - a2 * weights.T @ (p - onto[hard])

    g0 = gradient_of(clean, None)
    step0 = 0.05 * g0 / np.linalg.norm(g0)
    hard = int((weights @ (clean + matrix @ step0)).argmax())
    g1 = gradient_of(clean + step0, hard)
    expected = clean + step0 + 0.05 * g1 / np.linalg.norm(g1)
    attack = SMIA(variant="released", steps=2, step_size=0.05, a2=a2)
    victim = Victim(Linear(weights.tolist()), Classification(3))
    result = attack(victim, row(*clean), torch.tensor([y]), Threat(eps=0.5, norm="l2"))
    assert result.adversarial.flatten().numpy() == pytest.approx(expected, abs=1e-12)


def test_the_released_target_is_of_the_previous_iterate():
    """Where f(x'_0 + K∗s) and f(x'_1 + K∗s) have different classes, it is the first that counts."""
    rng = np.random.default_rng(0)
    matrix = smoothing_matrix(7, 1.0)
    for _ in range(2000):
        weights, clean = rng.normal(size=(3, 7)) * 3, rng.uniform(0.3, 0.7, 7)
        y = int((weights @ clean).argmax())
        step = 0.05 * np.sign(weights.T @ (softmax(weights @ clean) - np.eye(3)[y]))
        moved = np.clip(clean + step, 0, 1)
        previous = int((weights @ (clean + matrix @ step)).argmax())
        current = int((weights @ (moved + matrix @ step)).argmax())
        p = softmax(weights @ moved)
        directions = [
            np.sign(weights.T @ (p - np.eye(3)[y]) - 0.9 * weights.T @ (p - np.eye(3)[hard]))
            for hard in (previous, current)
        ]
        if previous != current and (directions[0] != directions[1]).any():
            break
    else:
        pytest.fail("no such case")
    attack = SMIA(variant="released", steps=2, step_size=0.05, a2=0.9)
    result = attack(
        Victim(Linear(weights.tolist()), Classification(3)), row(*clean), torch.tensor([y]), Threat(eps=0.2)
    )
    assert result.adversarial.flatten().numpy() == pytest.approx(moved + 0.05 * directions[0], abs=1e-12)


def test_with_a2_zero_it_is_bim_and_asks_the_model_no_more(trained):
    victim, images, truth = trained
    calls = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    options = {"steps": 4, "step_size": 0.004}
    ours = SMIA(a2=0, **options)(victim, images, truth, Threat(eps=0.01))
    smia_calls, calls[:] = list(calls), []
    bim = BIM(**options)(victim, images, truth, Threat(eps=0.01))
    hook.remove()
    assert torch.equal(ours.adversarial, bim.adversarial)
    assert smia_calls == calls == [16] * 5


def test_two_classes_and_a_constant_target_are_bim_but_not_through_it():
    """With K = 2 every loss gradient in the logits lies on one line: a constant target only scales the step."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1), nn.Tanh(), nn.Flatten(),
        nn.Linear(6 * 64, 2),
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far from linear, where the smoothed image has a gradient of its own
    victim = Victim(model, Classification(2))
    images = torch.rand(12, 1, 8, 8, dtype=torch.float64)
    truth = victim(images).argmax(1)
    options = {"steps": 5, "step_size": 0.01}
    bim = BIM(**options)(victim, images, truth, Threat(eps=0.04)).adversarial
    for divergence in ("kl", "ce"):
        held = SMIA(a2=0.9, divergence=divergence, through_target=False, **options)
        assert torch.equal(held(victim, images, truth, Threat(eps=0.04)).adversarial, bim)
    through = SMIA(a2=0.9, **options)(victim, images, truth, Threat(eps=0.04)).adversarial
    assert (through != bim).double().mean() > 0.01


def test_a_hard_target_as_heavy_as_the_deviation_stands_still_and_warns():
    """While the model is sure, the hard label is y, and (a1 − a2)·∇L is zero: only the random step is left."""
    with pytest.warns(MedrobustWarning, match="terms cancel"):
        attack = SMIA(a2=1.0, divergence="hard", steps=3, step_size=0.01)
    victim = Victim(Linear([[6.0, 6.0, 6.0], [-6.0, -6.0, -6.0]]), Classification(2))
    result = attack(victim, row(0.5, 0.5, 0.5), torch.tensor([0]), Threat(eps=0.05))
    assert result.zero_gradients.tolist() == [3]


@pytest.mark.parametrize(
    "options",
    [
        {"a2": 1.0, "through_target": False},
        {"a2": 2.0, "variant": "released"},
        {"divergence": "hard", "a2": 1.5},
    ],
)
def test_warns_where_the_terms_cancel(options):
    with pytest.warns(MedrobustWarning, match="a2 < a1"):
        SMIA(**options)


def test_dense_objective_leaves_ignored_pixels_out():
    """A pixel-wise linear model: J over two pixels is J over four of which two are ignored."""
    model = nn.Conv2d(1, 2, 1).double()
    images = torch.rand(1, 1, 1, 4, dtype=torch.float64)
    truth = torch.tensor([[[0, 1, 255, 255]]])
    task = Segmentation(2, ignore_index=255)
    victim = Victim(model, task)
    current = images.clone().requires_grad_()
    terms = Stabilized(inner=TaskLoss(), a2=0.5)(victim, Iterate(0, 1, images, current, truth, 1))
    with torch.no_grad():
        log_p = model(images).log_softmax(1)[0, :, 0].numpy()
        smoothed = torch.from_numpy(images[0, 0].numpy() @ smoothing_matrix(4, 1.0).T).reshape(1, 1, 1, 4)
        log_q = model(smoothed).log_softmax(1)[0, :, 0].numpy()
    loss = -(log_p[0, 0] + log_p[1, 1]) / 2
    kl = (np.exp(log_q) * (log_q - log_p)).sum(0)[:2].mean()
    assert float(terms.total.detach()) == pytest.approx(loss - 0.5 * kl, rel=1e-9)
