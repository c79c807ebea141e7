"""The options of TrainConfig's fields, as `kneeedge train` and `kneeedge tune` take them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kneeedge.cli.console import completes
from kneeedge.runs.config import TrainConfig, paper_recipe

DEFAULTS = TrainConfig(data="")
PAPER = paper_recipe(DEFAULTS)
MODEL, STEPS, IMAGES = "The network", "The training", "The images"
CERTIFY_HELP = "ppv=X,npv=X to keep on other images; those in between go to a person"
THRESHOLD_HELP = "youden, sensitivity=X, specificity=X on val; a number is free of chance in val"
VALUES = {
    "split": ("auto", "grouped", "paper"),
    "fit": ("stretch", "pad"),
    "weights": ("imagenet", "none"),
    "head": ("gap", "classifier"),
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "constant"),
    "precision": ("auto", "32", "bf16"),
    "frozen_precision": ("auto", "32", "bf16", "int8"),
    "threshold": ("youden", "sensitivity=", "specificity="),
    "certify": ("ppv=", "npv="),
    "corruptions": ("blur,resolution,contrast,gamma,noise",),
}
"what the shell completes"


def option(name: str, text: str, panel: str) -> Any:
    """An option of TrainConfig's field `name`; the recipe decides where it is not given."""
    default = getattr(DEFAULTS, name)
    paper = getattr(PAPER, name)
    values = [f"default {default}"] if default not in (None, "") else []
    values += [f"paper {paper}"] if default != paper else []
    suffix = f" ({'; '.join(values)})" if values else ""
    completion = completes(*VALUES[name]) if name in VALUES else None
    return typer.Option(
        help=text + suffix,
        rich_help_panel=panel,
        show_default=False,
        autocompletion=completion,
    )


def given_of(params: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The values of TrainConfig's fields `names` that a command line gives, a path as its text."""
    found = {name: params[name] for name in names if params[name] is not None}
    return {name: str(v) if isinstance(v, Path) else v for name, v in found.items()}


Seed = Annotated[int | None, option("seed", "Seed of everything random", STEPS)]
Positive = Annotated[str | None, option("positive", "The class called positive", IMAGES)]
Threshold = Annotated[str | None, option("threshold", THRESHOLD_HELP, STEPS)]
Certify = Annotated[str | None, option("certify", CERTIFY_HELP, STEPS)]
Abstain = Annotated[bool | None, option("abstain", "Learn which images to refuse", STEPS)]
GroupRegex = Annotated[
    str | None, option("group_regex", "Finds the patient in a path below CLASS", IMAGES)
]
Groups = Annotated[Path | None, option("groups", "CSV of path,group that `audit` writes", IMAGES)]
Audit = Annotated[bool | None, option("audit", "Look for copies first", IMAGES)]
DropConflicts = Annotated[
    bool | None, option("drop_conflicts", "Leave out copies of two labels", IMAGES)
]
DropLabels = Annotated[
    Path | None, option("drop_labels", "CSV of path,label whose images `audit` found wrong", IMAGES)
]
Split = Annotated[str | None, option("split", "auto, grouped, or paper (leaky)", IMAGES)]
Folds = Annotated[int | None, option("folds", "K for cross-validation by group", IMAGES)]
ValFraction = Annotated[float | None, option("val_fraction", "Share for validation", IMAGES)]
TestFraction = Annotated[float | None, option("test_fraction", "Share for the test", IMAGES)]
Size = Annotated[int | None, option("size", "Side of the input, pixels", IMAGES)]
Fit = Annotated[str | None, option("fit", "stretch or pad", IMAGES)]
GreyBits = Annotated[int | None, option("grey_bits", "Bits that 16-bit pixels use; 0: all", IMAGES)]
Rotation = Annotated[float | None, option("rotation", "Largest rotation, degrees", IMAGES)]
Flip = Annotated[bool | None, option("flip", "Mirrored views", IMAGES)]
Corruptions = Annotated[
    str | None, option("corruptions", "Kinds of `stress`, by commas, for half of the views", IMAGES)
]
Views = Annotated[int | None, option("views", "Cached views an image", IMAGES)]
CacheGb = Annotated[float | None, option("cache_gb", "Disk for the cache, GB", IMAGES)]
Workers = Annotated[int | None, option("workers", "Image reading processes of each device", IMAGES)]
Devices = Annotated[
    int | None, option("devices", "Processes that train together, one a GPU", STEPS)
]
Weights = Annotated[
    str | None, option("weights", "imagenet, none, a safetensors file or torchvision's .pth", MODEL)
]
Head = Annotated[str | None, option("head", "gap or classifier", MODEL)]
Width = Annotated[float | None, option("width", "Factor on the channels", MODEL)]
BatchNorm = Annotated[bool | None, option("batch_norm", "Batch norm", MODEL)]
FreezeBlocks = Annotated[int | None, option("freeze_blocks", "Frozen lower blocks, 0 to 5", MODEL)]
Dropout = Annotated[float | None, option("dropout", "Dropout before the head", MODEL)]
Epochs = Annotated[int | None, option("epochs", "Passes over the images", STEPS)]
BatchSize = Annotated[
    int | None, option("batch_size", "Images a step, of all devices together", STEPS)
]
Optimizer = Annotated[str | None, option("optimizer", "adamw or adam", STEPS)]
Lr = Annotated[float | None, option("lr", "Learning rate of the highest block", STEPS)]
HeadLr = Annotated[float | None, option("head_lr", "Learning rate of the head", STEPS)]
LrDecay = Annotated[float | None, option("lr_decay", "Factor for each lower block", STEPS)]
WeightDecay = Annotated[float | None, option("weight_decay", "Weight decay", STEPS)]
Schedule = Annotated[str | None, option("schedule", "cosine or constant", STEPS)]
Warmup = Annotated[float | None, option("warmup", "Share of steps that warm up", STEPS)]
LabelSmoothing = Annotated[float | None, option("label_smoothing", "Label smoothing", STEPS)]
Mixup = Annotated[
    float | None, option("mixup", "Alpha of mixup behind the frozen blocks; 0: none", STEPS)
]
Cutmix = Annotated[float | None, option("cutmix", "Alpha of CutMix there; 0: none", STEPS)]
Ema = Annotated[float | None, option("ema", "Decay of the averaged weights; 0: none", STEPS)]
Patience = Annotated[int | None, option("patience", "Epochs without progress; 0: all", STEPS)]
Precision = Annotated[str | None, option("precision", "auto, 32 or bf16", STEPS)]
FrozenPrecision = Annotated[
    str | None, option("frozen_precision", "auto, 32, bf16 or int8, of frozen blocks", STEPS)
]
