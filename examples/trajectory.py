"""How an attack moves: the KL terms of the paper's analysis, step by step, on the embedded brain slices.

    python examples/trajectory.py

For each step, the median over the slices of: the loss against the truth, KL(p_0 ‖ p_t) (how far the prediction has
left), KL(p_t ‖ p_T) (the distance to the spot where it ends) and KL(p_t ‖ p_smoothed) (what SMIA keeps small).
"""

import medrobust as mr
from medrobust.data import stack


def main() -> None:
    """Attack the level classifier by PGD and by SMIA, and print both ways."""
    data = mr.open_dataset("embedded:level")
    images, truth, ids = stack([data[index] for index in range(len(data))])
    model = mr.load_model("embedded:level", outputs=5, channels=1, task="ordinal")
    victim = mr.Victim(model, mr.Classification(classes=5, ordinal=True))
    for attack in (mr.PGD(trace=True), mr.SMIA(trace=True)):
        way = attack(victim, images, truth, mr.Threat(eps=4 / 255), ids=ids).trajectory
        print(
            f"\n{type(attack).__name__}: {len(images)} slices, eps 4/255\nstep   loss  KL(p0|pt)  KL(pt|pT)  KL(pt|ps)"
        )
        rows = zip(way.deviation, way.kl_initial, way.kl_final, way.kl_smoothed, strict=True)
        for step, row in enumerate(rows):
            print("{:4} {:6.2f} {:10.4f} {:10.4f} {:10.4f}".format(step, *(float(value.median()) for value in row)))


if __name__ == "__main__":
    main()
