"""A family of detectors of one's own in one file: a small DETR, which predicts a set of boxes without anchors.

    python examples/own_detector.py

`SmallDETR` (after Carion et al., arXiv 2005.12872) is an ordinary module that has the methods of
`medrobust.detectors.Detector` besides: that is all that medrobust needs of it. Trained here for half a minute on drawn
squares and discs, it is then shown images that ten signed gradient steps have changed.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from medrobust.data.dataset import pad_boxes
from medrobust.detectors import Detections, DetectorOutputs, detector_of

EPS = 16 / 255


class SmallDETR(nn.Module):
    """Convolutions, and a decoder whose queries each give one class (the last is "nothing") and one box."""

    def __init__(self, classes: int, queries: int = 6, width: int = 64) -> None:
        super().__init__()
        self.classes = classes
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, width, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)),
        )
        self.position = nn.Linear(2, width)
        self.queries = nn.Parameter(torch.randn(queries, width))
        layer = nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.class_head = nn.Linear(width, classes + 1)
        self.box_head = nn.Linear(width, 4)

    def forward(self, images: Tensor) -> DetectorOutputs:
        """Class logits `(B, Q, K + 1)` and corners `(B, Q, 4)` as shares of the image's sides."""
        maps = self.features(images)
        rows, columns = (torch.linspace(-1, 1, size, device=maps.device) for size in maps.shape[-2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
        memory = maps.flatten(2).transpose(1, 2) + self.position(grid)
        found = self.decoder(self.queries.expand(len(images), -1, -1), memory)
        boxes = box_convert(self.box_head(found).sigmoid(), "cxcywh", "xyxy")
        tensors = {"logits": self.class_head(found), "boxes": boxes}
        return DetectorOutputs(self, tensors, (images.shape[-2], images.shape[-1]))

    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """DETR's loss of each image, `(B,)`, after the best matching of queries and objects."""
        sides = self._sides(outputs)
        images = zip(outputs.tensors["logits"], outputs.tensors["boxes"], truth.to(sides), strict=True)
        losses = [self._image_loss(logits, boxes, rows[rows[:, 4] >= 0], sides) for logits, boxes, rows in images]
        return torch.stack(losses)

    def _image_loss(self, logits: Tensor, boxes: Tensor, rows: Tensor, sides: Tensor) -> Tensor:
        objects, labels = rows[:, :4] / sides, rows[:, 4].long()
        distances = 5 * torch.cdist(boxes, objects, p=1) + 2 * (1 - generalized_box_iou(boxes, objects))
        costs = distances - logits.softmax(-1)[:, labels]
        matched, which = (torch.as_tensor(index) for index in linear_sum_assignment(costs.detach().cpu().numpy()))
        wanted = torch.full((len(logits),), self.classes, device=logits.device)
        wanted[matched] = labels[which]
        weights = torch.ones(self.classes + 1, device=logits.device)
        weights[-1] = 0.2
        return F.cross_entropy(logits, wanted, weights) + distances[matched, which].sum() / max(1, len(rows))

    def places(self, outputs: DetectorOutputs) -> None:
        """None: queries are the same for every image."""

    def log_probs(self, outputs: DetectorOutputs, places: None = None) -> Tensor:
        """Log-probabilities `(B, K + 1, Q)` of the classes and of nothing."""
        return outputs.tensors["logits"].log_softmax(-1).transpose(1, 2)

    @torch.no_grad()
    def detect(self, outputs: DetectorOutputs) -> list[Detections]:
        """The queries that are surer of a class than of anything else, best first."""
        found = []
        for logits, boxes in zip(outputs.tensors["logits"], outputs.tensors["boxes"], strict=True):
            scores, labels = logits.softmax(-1)[:, :-1].max(-1)
            order = scores.argsort(descending=True)
            order = order[scores[order] > 0.5]
            found.append(Detections((boxes * self._sides(outputs))[order], labels[order], scores[order]))
        return found

    def _sides(self, outputs: DetectorOutputs) -> Tensor:
        height, width = outputs.image_size
        return outputs.tensors["boxes"].new_tensor([width, height, width, height])


def draw(count: int, seed: int, size: int = 48) -> tuple[Tensor, Tensor]:
    """Grey images `(count, 1, size, size)` with one or two bright squares (class 0) and discs (class 1), and truth."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.1 + 0.1 * torch.rand(count, 1, size, size, generator=generator)
    axis = torch.arange(size) + 0.5
    truths = []
    for image in images:
        rows = []
        for half in range(1 + int(torch.randint(2, (), generator=generator))):  # one in each half at most
            radius = 5 + 5 * torch.rand((), generator=generator)
            x, y = radius + (torch.tensor([size / 2, size]) - 2 * radius) * torch.rand(2, generator=generator)
            x = x + half * size / 2
            across, down = (axis - x).abs()[None], (axis - y).abs()[:, None]
            disc = int(torch.randint(2, (), generator=generator))
            inside = (across**2 + down**2 < radius**2) if disc else torch.maximum(across, down) < radius
            image[0][inside] += 0.5
            rows.append(torch.stack([x - radius, y - radius, x + radius, y + radius, torch.tensor(float(disc))]))
        truths.append(torch.stack(rows))
    return images, pad_boxes(truths)


def train(steps: int = 700) -> SmallDETR:
    """A detector that finds the drawn objects."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallDETR(classes=2)
    images, truth = draw(2048, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        batch = torch.arange(32 * step, 32 * (step + 1)) % len(images)
        optimizer.zero_grad()
        loss = model.loss(model(images[batch]), truth[batch]).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def main() -> None:
    """Train, look for the objects of new images, and look again after ten steps up the loss."""
    detector = detector_of(train(), classes=2)
    images, truth = draw(100, seed=1)
    attacked = images
    for _ in range(10):
        attacked = attacked.detach().requires_grad_()
        loss = detector.loss(detector.forward(attacked), truth)
        (gradient,) = torch.autograd.grad(loss.sum(), attacked)
        attacked = (attacked + EPS / 4 * gradient.sign()).clamp(images - EPS, images + EPS).clamp(0, 1).detach()
    objects = int((truth[..., 4] >= 0).sum())
    print(f"{objects} objects in {len(images)} images\n             loss   found   with their class")
    for name, shown in (("as they are", images), ("attacked", attacked)):
        outputs = detector.forward(shown)
        found, right = count(detector.detect(outputs), truth)
        print(f"{name:11} {detector.loss(outputs, truth).mean().item():6.2f} {found:7} {right:8}")


def count(detections: list[Detections], truth: Tensor) -> tuple[int, int]:
    """How many objects a detection overlaps by half or more, and how many of them have its class."""
    found = right = 0
    for one, rows in zip(detections, truth, strict=True):
        rows = rows[rows[:, 4] >= 0]
        overlap = box_iou(rows[:, :4], one.boxes) >= 0.5
        same = one.labels[None] == rows[:, 4:]
        found += int(overlap.any(1).sum())
        right += int((overlap & same).any(1).sum())
    return found, right


if __name__ == "__main__":
    main()
