"""The published weights of the Swin family, as tables.

Every row was checked against its source: the default configurations and the results-imagenet.csv of timm, the weight
enums of torchvision, and MODELHUB.md and the configurations of microsoft/Swin-Transformer. What no source states is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swinv2.checkpoint.record import Kind, Record, Source
from swinv2.config import Axes, WindowSpec
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

_STORAGE = "https://github.com/SwinTransformer/storage/releases/download"
_TIMM_RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"

# fmt: off
# Trained by Microsoft, published again and measured by timm: name, variant, window, resolution, top-1;
# Microsoft's file, transformers' repository. The repositories of V1 base were converted from the models that timm then
# called so, which were fine-tuned from ImageNet-22K.
_MICROSOFT: tuple[tuple[str, str, int, int, float | None, str, str], ...] = (
    ("swinv2_tiny_window8_256.ms_in1k", "swinv2_tiny", 8, 256, 81.820,
     "v2.0.0/swinv2_tiny_patch4_window8_256", "swinv2-tiny-patch4-window8-256"),
    ("swinv2_tiny_window16_256.ms_in1k", "swinv2_tiny", 16, 256, 82.804,
     "v2.0.0/swinv2_tiny_patch4_window16_256", "swinv2-tiny-patch4-window16-256"),
    ("swinv2_small_window8_256.ms_in1k", "swinv2_small", 8, 256, 83.854,
     "v2.0.0/swinv2_small_patch4_window8_256", "swinv2-small-patch4-window8-256"),
    ("swinv2_small_window16_256.ms_in1k", "swinv2_small", 16, 256, 84.224,
     "v2.0.0/swinv2_small_patch4_window16_256", "swinv2-small-patch4-window16-256"),
    ("swinv2_base_window8_256.ms_in1k", "swinv2_base", 8, 256, 84.250,
     "v2.0.0/swinv2_base_patch4_window8_256", "swinv2-base-patch4-window8-256"),
    ("swinv2_base_window16_256.ms_in1k", "swinv2_base", 16, 256, 84.600,
     "v2.0.0/swinv2_base_patch4_window16_256", "swinv2-base-patch4-window16-256"),
    ("swinv2_base_window12_192.ms_in22k", "swinv2_base", 12, 192, None,
     "v2.0.0/swinv2_base_patch4_window12_192_22k", "swinv2-base-patch4-window12-192-22k"),
    ("swinv2_large_window12_192.ms_in22k", "swinv2_large", 12, 192, None,
     "v2.0.0/swinv2_large_patch4_window12_192_22k", "swinv2-large-patch4-window12-192-22k"),
    ("swin_tiny_patch4_window7_224.ms_in1k", "swin_tiny", 7, 224, 81.376,
     "v1.0.0/swin_tiny_patch4_window7_224", "swin-tiny-patch4-window7-224"),
    ("swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", "swin_tiny", 7, 224, 80.968,
     "v1.0.8/swin_tiny_patch4_window7_224_22kto1k_finetune", ""),
    ("swin_tiny_patch4_window7_224.ms_in22k", "swin_tiny", 7, 224, None,
     "v1.0.8/swin_tiny_patch4_window7_224_22k", ""),
    ("swin_small_patch4_window7_224.ms_in1k", "swin_small", 7, 224, 83.208,
     "v1.0.0/swin_small_patch4_window7_224", "swin-small-patch4-window7-224"),
    ("swin_small_patch4_window7_224.ms_in22k_ft_in1k", "swin_small", 7, 224, 83.298,
     "v1.0.8/swin_small_patch4_window7_224_22kto1k_finetune", ""),
    ("swin_small_patch4_window7_224.ms_in22k", "swin_small", 7, 224, None,
     "v1.0.8/swin_small_patch4_window7_224_22k", ""),
    ("swin_base_patch4_window7_224.ms_in1k", "swin_base", 7, 224, 83.606,
     "v1.0.0/swin_base_patch4_window7_224", ""),
    ("swin_base_patch4_window7_224.ms_in22k_ft_in1k", "swin_base", 7, 224, 85.272,
     "v1.0.0/swin_base_patch4_window7_224_22kto1k", "swin-base-patch4-window7-224"),
    ("swin_base_patch4_window7_224.ms_in22k", "swin_base", 7, 224, None,
     "v1.0.0/swin_base_patch4_window7_224_22k", "swin-base-patch4-window7-224-in22k"),
    ("swin_base_patch4_window12_384.ms_in1k", "swin_base", 12, 384, 84.476,
     "v1.0.0/swin_base_patch4_window12_384", ""),
    ("swin_base_patch4_window12_384.ms_in22k_ft_in1k", "swin_base", 12, 384, 86.438,
     "v1.0.0/swin_base_patch4_window12_384_22kto1k", "swin-base-patch4-window12-384"),
    ("swin_base_patch4_window12_384.ms_in22k", "swin_base", 12, 384, None,
     "v1.0.0/swin_base_patch4_window12_384_22k", "swin-base-patch4-window12-384-in22k"),
    ("swin_large_patch4_window7_224.ms_in22k_ft_in1k", "swin_large", 7, 224, 86.312,
     "v1.0.0/swin_large_patch4_window7_224_22kto1k", "swin-large-patch4-window7-224"),
    ("swin_large_patch4_window7_224.ms_in22k", "swin_large", 7, 224, None,
     "v1.0.0/swin_large_patch4_window7_224_22k", "swin-large-patch4-window7-224-in22k"),
    ("swin_large_patch4_window12_384.ms_in22k_ft_in1k", "swin_large", 12, 384, 87.132,
     "v1.0.0/swin_large_patch4_window12_384_22kto1k", "swin-large-patch4-window12-384"),
    ("swin_large_patch4_window12_384.ms_in22k", "swin_large", 12, 384, None,
     "v1.0.0/swin_large_patch4_window12_384_22k", "swin-large-patch4-window12-384-in22k"),
)
# The same, fine-tuned from weights that were trained at 192 with window 12.
_ENLARGED: tuple[tuple[str, str, int, int, float | None, str, str], ...] = (
    ("swinv2_base_window12to16_192to256.ms_in22k_ft_in1k", "swinv2_base", 16, 256, 86.268,
     "v2.0.0/swinv2_base_patch4_window12to16_192to256_22kto1k_ft",
     "swinv2-base-patch4-window12to16-192to256-22kto1k-ft"),
    ("swinv2_base_window12to24_192to384.ms_in22k_ft_in1k", "swinv2_base", 24, 384, 87.096,
     "v2.0.0/swinv2_base_patch4_window12to24_192to384_22kto1k_ft",
     "swinv2-base-patch4-window12to24-192to384-22kto1k-ft"),
    ("swinv2_large_window12to16_192to256.ms_in22k_ft_in1k", "swinv2_large", 16, 256, 86.952,
     "v2.0.0/swinv2_large_patch4_window12to16_192to256_22kto1k_ft",
     "swinv2-large-patch4-window12to16-192to256-22kto1k-ft"),
    ("swinv2_large_window12to24_192to384.ms_in22k_ft_in1k", "swinv2_large", 24, 384, 87.464,
     "v2.0.0/swinv2_large_patch4_window12to24_192to384_22kto1k_ft",
     "swinv2-large-patch4-window12to24-192to384-22kto1k-ft"),
)
# Searched instead of designed (arXiv 2111.14725): name, variant, windows, top-1, file, what differs from the variant.
_S3: tuple[tuple[str, str, Axes, float, str, dict[str, Any]], ...] = (
    ("swin_s3_tiny_224.ms_in1k", "swin_tiny", (7, 7, 14, 7), 82.144, "s3_t-1d53f6a8", {}),
    ("swin_s3_small_224.ms_in1k", "swin_small", (14, 14, 14, 7), 83.756, "s3_s-3bb4c69d", {}),
    ("swin_s3_base_224.ms_in1k", "swin_small", (7, 7, 14, 7), 83.920, "s3_b-a1e95db4", {"depths": (2, 2, 30, 2)}),
)
# name, variant, window, resolution, top-1; file, member of the enum, size of the resized image. torchvision states no
# licence for its weights; the library's is BSD. Its video models are measured on 12 clips of 32 frames of each video.
_TORCHVISION: tuple[tuple[str, str, WindowSpec, Axes, float, str, str, int], ...] = (
    ("swin_tiny_patch4_window7_224.tv_in1k", "swin_tiny", 7, (224, 224), 81.474,
     "swin_t-704ceda3", "Swin_T_Weights.IMAGENET1K_V1", 232),
    ("swin_small_patch4_window7_224.tv_in1k", "swin_small", 7, (224, 224), 83.196,
     "swin_s-5e29d889", "Swin_S_Weights.IMAGENET1K_V1", 246),
    ("swin_base_patch4_window7_224.tv_in1k", "swin_base", 7, (224, 224), 83.582,
     "swin_b-68c6b09e", "Swin_B_Weights.IMAGENET1K_V1", 238),
    ("swinv2_tiny_window8_256.tv_in1k", "swinv2_tiny", 8, (256, 256), 82.072,
     "swin_v2_t-b137f0e2", "Swin_V2_T_Weights.IMAGENET1K_V1", 260),
    ("swinv2_small_window8_256.tv_in1k", "swinv2_small", 8, (256, 256), 83.712,
     "swin_v2_s-637d8ceb", "Swin_V2_S_Weights.IMAGENET1K_V1", 260),
    ("swinv2_base_window8_256.tv_in1k", "swinv2_base", 8, (256, 256), 84.112,
     "swin_v2_b-781e5279", "Swin_V2_B_Weights.IMAGENET1K_V1", 272),
    ("swin_video_tiny_window8x7x7_224.tv_k400", "swin_video_tiny", (8, 7, 7), (32, 224, 224), 77.715,
     "swin3d_t-7615ae03", "Swin3D_T_Weights.KINETICS400_V1", 256),
    ("swin_video_small_window8x7x7_224.tv_k400", "swin_video_small", (8, 7, 7), (32, 224, 224), 79.521,
     "swin3d_s-da41c237", "Swin3D_S_Weights.KINETICS400_V1", 256),
    ("swin_video_base_window8x7x7_224.tv_k400", "swin_video_base", (8, 7, 7), (32, 224, 224), 79.427,
     "swin3d_b_1k-24f7c7c6", "Swin3D_B_Weights.KINETICS400_V1", 256),
    ("swin_video_base_window8x7x7_224.tv_in22k_ft_k400", "swin_video_base", (8, 7, 7), (32, 224, 224), 81.643,
     "swin3d_b_22k-7c6ae6fa", "Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1", 256),
)
# fmt: on


def _microsoft() -> Iterator[Record]:
    for table, first in ((_MICROSOFT, None), (_ENLARGED, (12, 192))):
        for name, variant, window, size, top1, file, hub in table:
            hubs = (Source(kind="transformers", location=f"microsoft/{hub}"),) if hub else ()
            sources = (*hubs, _file("github", f"{_STORAGE}/{file}.pth"))
            yield _timm(name, variant, window, size, top1, sources, first=first)
    for name, variant, windows, top1, file, changes in _S3:
        yield _timm(name, variant, windows, 224, top1, (_file("github", f"{_TIMM_RELEASE}/{file}.pth"),), **changes)
    # Swin-T with 24 channels per head is Microsoft's alone, which evaluates at 256/224 of the resolution.
    yield Record(
        name="swin_tiny_c24_patch4_window8_256.ms_in1k",
        variant="swin_tiny",
        window=8,
        image_size=(256, 256),
        labels="in1k",
        top1=81.6,
        reported_by="microsoft",
        licence="mit",
        preprocessing=_preprocessing(256, 0.875),
        sources=(_file("github", f"{_STORAGE}/v1.0.5/swin_tiny_c24_patch4_window8_256.pth"),),
        changes={"num_heads": (4, 8, 16, 32)},
    )


def _timm(
    name: str,
    variant: str,
    window: WindowSpec,
    size: int,
    top1: float | None,
    sources: tuple[Source, ...],
    first: tuple[int, int] | None = None,
    **changes: Any,
) -> Record:
    """As timm publishes it: no crop at 384, and no figure for the heads of 21,841 classes."""
    return Record(
        name=name,
        variant=variant,
        window=window,
        image_size=(size, size),
        first=first,
        labels="in1k" if top1 else "in22k",
        top1=top1,
        reported_by="timm" if top1 else "",
        licence="mit",
        preprocessing=_preprocessing(size, 1.0 if size == 384 else 0.9),
        sources=(Source(kind="timm", location=f"timm/{name}"), *sources),
        changes=changes,
    )


def _torchvision() -> Iterator[Record]:
    for name, variant, window, size, top1, file, member, resized in _TORCHVISION:
        video = len(size) == 3
        yield Record(
            name=name,
            variant=variant,
            window=window,
            image_size=size,
            labels="k400" if video else "in1k",
            top1=top1,
            reported_by="torchvision",
            licence="bsd-3-clause",
            preprocessing=_preprocessing(size[-1], size[-1] / resized, "bilinear" if video else "bicubic"),
            sources=(_file("torchvision", f"https://download.pytorch.org/models/{file}.pth"),),
            aliases=(member,),
        )


def _file(kind: Kind, url: str) -> Source:
    return Source(kind=kind, location=url, file=url.rpartition("/")[2])


def _preprocessing(size: int, crop: float, interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(
        size=(size, size), mean=IMAGENET_MEAN, std=IMAGENET_STD, crop_fraction=crop, interpolation=interpolation
    )


# variant, first part of the name, window, resolution, epochs of the pre-training, top-1, the file's id on Google Drive
_SIMMIM_V1 = (
    ("swin_base", "swin_base_window6_192", 6, 192, 100, None, "1Wcbr66JL26FF30Kip9fZa_0lXrDAKP-d"),
    ("swin_base", "swin_base_window6_192", 6, 192, 800, None, "15zENvGjHlM71uKQ3d2FbljWPubtrPtjl"),
    ("swin_large", "swin_large_window12_192", 12, 192, 800, None, "1qDxrTl2YUDB0505_4QrU5LU2R1kKmcBP"),
    ("swin_base", "swin_base_window6_192", 6, 192, 100, 82.8, "1RsgHfjB4B1ZYblXEQVT-FPX3WSvBrxcs"),
    ("swin_base", "swin_base_window6to7_192to224", 7, 224, 100, 83.5, "1mb43BkW56F5smwiX-g7QUUD7f1Rftq8u"),
    ("swin_base", "swin_base_window6to7_192to224", 7, 224, 800, 84.0, "1xEKyfMTsdh6TfnYhk5vbw0Yz7a-viZ0w"),
    ("swin_large", "swin_large_window12to14_192to224", 14, 224, 800, 85.4, "1mf0ZpXttEvFsH87Www4oQ-t8Kwr0x485"),
)
_SIMMIM_V1_HUB = {
    # transformers' conversion script names the file of 100 epochs; of large there is only one.
    "swin_base_window6_192.simmim_100ep": "microsoft/swin-base-simmim-window6-192",
    "swin_large_window12_192.simmim_800ep": "microsoft/swin-large-simmim-window12-192",
}


def _simmim_v1() -> Iterator[Record]:
    """SimMIM (arXiv 2111.09886): pre-trained without labels, and fine-tuned on ImageNet-1K."""
    for variant, stem, window, size, epochs, top1, drive in _SIMMIM_V1:
        tuned = top1 is not None
        name = f"{stem}.simmim_{epochs}ep{'_ft_in1k' if tuned else ''}"
        step = "finetune" if tuned else "pretrain"
        file = f"simmim_{step}__{variant}__img{size}_window{window}__{epochs}ep.pth"
        hub = [Source(kind="transformers", location=_SIMMIM_V1_HUB[name])] if name in _SIMMIM_V1_HUB else []
        yield Record(
            name=name,
            variant=variant,
            window=window,
            image_size=(size, size),
            labels="in1k" if tuned else "none",
            top1=top1,
            reported_by="microsoft" if tuned else "",
            licence="mit",
            preprocessing=_preprocessing(size, 0.875),
            sources=(*hub, Source(kind="drive", location=f"https://drive.google.com/file/d/{drive}/view", file=file)),
        )


# Top-1 after fine-tuning a model pre-trained for 125, 250 and 500 thousand iterations on a share of ImageNet.
_SIMMIM_V2 = {
    "small": {
        "1kper10": (82.69, 83.11, 83.17),
        "1kper20": (83.05, 83.56, 83.75),
        "1kper50": (83.04, 83.67, 83.96),
        "1k": (82.92, 83.66, 84.08),
    },
    "base": {
        "1kper10": (83.33, 83.60, 83.41),
        "1kper20": (83.86, 84.37, 84.61),
        "1kper50": (84.04, 84.57, 84.95),
        "1k": (84.13, 84.65, 85.04),
        "22k": (84.11, 84.57, 85.11),
    },
    "large": {
        "1kper10": (83.69, 83.66, 83.50),
        "1kper20": (84.38, 84.71, 84.59),
        "1kper50": (84.78, 85.38, 85.80),
        "1k": (84.98, 85.45, 85.91),
        "22k": (84.61, 85.39, 85.81),
    },
    "huge": {
        "1kper20": (84.35, 84.16, 83.44),
        "1kper50": (85.09, 85.64, 85.69),
        "1k": (85.23, 85.90, 86.34),
        "22k": (85.14, 85.86, 86.27),
    },
    "giant": {
        "1kper50": (85.44, 85.76, 85.51),
        "1k": (85.57, 86.12, 86.46),
        "22k": (85.39, 85.96, 86.53),
    },
}
# The giant of 1.06 billion parameters is not the paper's; no source tells whether it has the extra norms of huge.
_GIANT = {"embed_dim": 448, "num_heads": (14, 28, 56, 112)}


def _simmim_v2() -> Iterator[Record]:
    """The study of data scaling (arXiv 2206.04664): pre-trained at 192 with window 12, fine-tuned at 224 with 14.

    The windows are those of the repository's configurations for base.
    """
    for size, shares in _SIMMIM_V2.items():
        for share, accuracies in shares.items():
            for iterations, top1 in zip(("125k", "250k", "500k"), accuracies, strict=True):
                yield _simmim_v2_record(size, f"{share}_{iterations}", None)
                yield _simmim_v2_record(size, f"{share}_{iterations}", top1)


def _simmim_v2_record(size: str, run: str, top1: float | None) -> Record:
    tuned = top1 is not None
    variant, called = ("swinv2_huge", "giant1b") if size == "giant" else (f"swinv2_{size}", size)
    file = f"swinv2_{size}_{run}.pth"
    folder = "simmim_swinv2_finetune_models/finetune_" if tuned else "simmim_swinv2_pretrain_models/"
    trained = "window12to14_192to224" if tuned else "window12_192"
    return Record(
        name=f"swinv2_{called}_{trained}.simmim_{run}{'_ft_in1k' if tuned else ''}",
        variant=variant,
        window=14 if tuned else 12,
        image_size=(224, 224) if tuned else (192, 192),
        first=(12, 192) if tuned else None,
        labels="in1k" if tuned else "none",
        top1=top1,
        reported_by="microsoft" if tuned else "",
        licence="mit",
        preprocessing=_preprocessing(224 if tuned else 192, 0.875),
        sources=(Source(kind="simmim", location="zdaxie/SimMIM", file=f"{folder}{file}"),),
        changes=_GIANT if size == "giant" else {},
    )


RECORDS: dict[str, Record] = {
    record.name: record for record in (*_microsoft(), *_torchvision(), *_simmim_v1(), *_simmim_v2())
}
"""Every record by its name."""
