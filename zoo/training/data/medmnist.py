"""MedMNIST's `.npz` files, read without the medmnist package.

A file holds `{train,val,test}_images` (uint8, (N, H, W) or (N, H, W, 3)) and `{train,val,test}_labels` ((N, 1), or
(N, 14) zeros and ones for ChestMNIST). Yang et al., "MedMNIST v2", 2023, arXiv:2110.14795.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ArrayImages, Splits

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


def open_npz(path: Path) -> Splits:
    """Read a MedMNIST-layout `.npz` file; splits that it lacks are left out.

    Raises:
        DataError: not an npz file, missing arrays, 3-D volumes, labels that do not fit, pickled arrays.
    """
    arrays = _load(path)
    flag = path.stem.split("_")[0].lower()
    found = [s for s in ("train", "val", "test") if f"{s}_images" in arrays]
    if not found:
        raise DataError(
            f"{path} lacks arrays named train_images, val_images or test_images; it holds: "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    missing = [f"{s}_labels" for s in found if f"{s}_labels" not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds: {', '.join(sorted(arrays))}")
    labels = {s: _labels(arrays[f"{s}_labels"], f"{s}_labels of {path.name}") for s in found}
    classes = CLASS_NAMES.get(flag) or _numbered(labels)
    splits = Splits(name=path.stem)
    for split in found:
        images = _images(arrays[f"{split}_images"], f"{split}_images of {path.name}")
        name = f"{split} of {path.name}"
        # Mirroring would turn a left kidney into a right one.
        setattr(
            splits, split, ArrayImages(images, labels[split], classes, name=name, flip=not flag.startswith("organ"))
        )
    return splits


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        # numpy leaves a damaged file open when it is given the path.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as an .npz file ({error}); pickled arrays are refused") from error


def _images(images: np.ndarray, name: str) -> np.ndarray:
    shape = images.shape
    if images.ndim == 5 or (images.ndim == 4 and shape[3] not in (1, 3)):
        raise DataError(
            f"{name} has shape {shape}: volumes are not supported, only (N, H, W) and (N, H, W, 3). "
            "Take slices or projections first"
        )
    if images.ndim not in (3, 4):
        raise DataError(f"{name} has shape {shape}; expected (N, H, W) or (N, H, W, 3)")
    if images.dtype != np.uint8:
        raise DataError(f"{name} has type {images.dtype}; expected uint8")
    return images


def _labels(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise DataError(
            f"{name} has type {labels.dtype} and shape {labels.shape}; expected whole numbers, (N, 1) or (N, K)"
        )
    return labels.astype(np.int64)


def _numbered(labels: dict[str, np.ndarray]) -> list[str]:
    first = next(iter(labels.values()))
    if first.ndim == 2:
        return [str(k) for k in range(first.shape[1])]
    # Other splits must not have classes that training lacks: the range check of the set finds them.
    return [str(k) for k in range(int(labels.get("train", first).max()) + 1)]
