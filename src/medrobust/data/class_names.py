"""Names of classes: those that known data sets define, and those made up where none are given."""

from __future__ import annotations

from collections.abc import Sequence

from medrobust.errors import InputError, unknown

# International Clinical Diabetic Retinopathy scale (Wilkinson et al., Ophthalmology 110, 2003): the grades of
# APTOS 2019 and, by way of DeepDRiD, of RetinaMNIST.
RETINOPATHY_GRADES = ("no DR", "mild", "moderate", "severe", "proliferative DR")

# Endoscopy Artefact Detection challenges (Ali et al., arXiv 1905.03209, and EndoCV2020), in index order.
EAD_2019: tuple[str, ...] = ("specularity", "saturation", "artifact", "blur", "contrast", "bubbles", "instrument")
EAD_2020: tuple[str, ...] = (*EAD_2019, "blood")

# COVID-19 CT Lung and Infection Segmentation (Ma et al., doi 10.5281/zenodo.3757476), by folder of masks.
COVID_CT = {
    "Lung_and_Infection_Mask": ("background", "left lung", "right lung", "infection"),
    "Lung_Mask": ("background", "left lung", "right lung"),
    "Infection_Mask": ("background", "infection"),
}

_ABDOMEN_2D = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

# MedMNIST v2 (Yang et al., Sci Data 10, 2023), labels in index order.
MEDMNIST: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": (
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural",
        "hernia",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesions",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevi",
        "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": RETINOPATHY_GRADES,
    "breastmnist": ("malignant", "normal or benign"),
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "collecting duct, connecting tubule",
        "distal convoluted tubule",
        "glomerular endothelial cells",
        "interstitial endothelial cells",
        "leukocytes",
        "podocytes",
        "proximal tubule segments",
        "thick ascending limb",
    ),
    "organamnist": _ABDOMEN_2D,
    "organcmnist": _ABDOMEN_2D,
    "organsmnist": _ABDOMEN_2D,
    "organmnist3d": (
        "liver",
        "kidney-right",
        "kidney-left",
        "femur-right",
        "femur-left",
        "bladder",
        "heart",
        "lung-right",
        "lung-left",
        "spleen",
        "pancreas",
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}


def numbered(count: int) -> tuple[str, ...]:
    """The names "0" to "count − 1"."""
    return tuple(str(index) for index in range(count))


def name_classes(wanted: int | tuple[str, ...] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """The user's names, or the data's own; a number that is not the data's gives "0", "1" and so on."""
    if wanted is None:
        return default
    if isinstance(wanted, tuple):
        return wanted
    return default if wanted == len(default) else numbered(wanted)


def order_classes(found: tuple[str, ...], wanted: int | tuple[str, ...] | None, source: str) -> tuple[str, ...]:
    """The classes of data that name them: in the user's order, which may have more, or in the data's own.

    Raises:
        InputError: a name of the data is not among the user's, or their number is not the user's.
    """
    if isinstance(wanted, tuple):
        unnamed = [name for name in found if name not in wanted]
        if unnamed:
            raise InputError(
                f"{source}: class {unnamed[0]!r} is not among classes ({', '.join(wanted)}); name it there"
            )
        return wanted
    if wanted is not None and wanted != len(found):
        raise InputError(
            f"{source}: there are {len(found)} classes ({', '.join(found)}) but {wanted} are wanted; "
            "leave classes out, or name them all"
        )
    return found


def class_indices(wanted: Sequence[str | int] | str | int, classes: Sequence[str]) -> tuple[int, ...]:
    """The indices of classes that are given by name or by index.

    Raises:
        InputError: there is no such class; the message gives the nearest name.
    """
    listed = [wanted] if isinstance(wanted, str | int) else list(wanted)
    found = []
    for one in listed:
        if isinstance(one, str):
            if one not in classes:
                raise unknown("class", one, classes)
            found.append(list(classes).index(one))
        elif not 0 <= one < len(classes):
            raise InputError(f"unknown class {one}: the data have {len(classes)}, from 0 to {len(classes) - 1}")
        else:
            found.append(one)
    return tuple(found)
