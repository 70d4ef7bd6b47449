"""What is published about the sets of MedMNIST beside their files: tasks, sizes, licences, class names.

Yang et al., "MedMNIST v2", 2023, arXiv:2110.14795.
"""

from __future__ import annotations

from typing import NamedTuple

URL = "https://medmnist.com"


class Published(NamedTuple):
    """One set.

    Attributes:
        task: "multi-class", "binary", "multi-label" or "ordinal".
        channels: of an image.
        classes: how many.
        sizes: images in train, val and test.
        volumes: 3-D.
    """

    task: str
    channels: int
    classes: int
    sizes: tuple[int, int, int]
    volumes: bool = False
    licence: str = "CC BY 4.0"


SETS = {
    "pathmnist": Published("multi-class", 3, 9, (89996, 10004, 7180)),
    "chestmnist": Published("multi-label", 1, 14, (78468, 11219, 22433)),
    "dermamnist": Published("multi-class", 3, 7, (7007, 1003, 2005), licence="CC BY-NC 4.0"),
    "octmnist": Published("multi-class", 1, 4, (97477, 10832, 1000)),
    "pneumoniamnist": Published("binary", 1, 2, (4708, 524, 624)),
    "retinamnist": Published("ordinal", 3, 5, (1080, 120, 400)),
    "breastmnist": Published("binary", 1, 2, (546, 78, 156)),
    "bloodmnist": Published("multi-class", 3, 8, (11959, 1712, 3421)),
    "tissuemnist": Published("multi-class", 1, 8, (165466, 23640, 47280)),
    "organamnist": Published("multi-class", 1, 11, (34561, 6491, 17778)),
    "organcmnist": Published("multi-class", 1, 11, (12975, 2392, 8216)),
    "organsmnist": Published("multi-class", 1, 11, (13932, 2452, 8827)),
    "organmnist3d": Published("multi-class", 1, 11, (971, 161, 610), volumes=True),
    "nodulemnist3d": Published("binary", 1, 2, (1158, 165, 310), volumes=True),
    "adrenalmnist3d": Published("binary", 1, 2, (1188, 98, 298), volumes=True),
    "fracturemnist3d": Published("multi-class", 1, 3, (1027, 103, 240), volumes=True),
    "vesselmnist3d": Published("binary", 1, 2, (1335, 191, 382), volumes=True),
    "synapsemnist3d": Published("binary", 1, 2, (1230, 177, 352), volumes=True),
}

_ORGANS = [
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
]
# The names of the classes are published beside the files, not inside them.
CLASS_NAMES: dict[str, list[str]] = {
    "pathmnist": [
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ],
    "chestmnist": [
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
    ],
    "dermamnist": [
        "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesions",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevi",
        "vascular lesions",
    ],
    "octmnist": ["choroidal neovascularization", "diabetic macular edema", "drusen", "normal"],
    "pneumoniamnist": ["normal", "pneumonia"],
    "retinamnist": ["0", "1", "2", "3", "4"],
    "breastmnist": ["malignant", "normal, benign"],
    "bloodmnist": [
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ],
    "tissuemnist": [
        "collecting duct, connecting tubule",
        "distal convoluted tubule",
        "glomerular endothelial cells",
        "interstitial endothelial cells",
        "leukocytes",
        "podocytes",
        "proximal tubule segments",
        "thick ascending limb",
    ],
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}
