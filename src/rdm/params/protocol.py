"""Evaluation protocols: everything that changes a score and is not the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from rdm.params.section import Section

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Pixels(Section):
    """How uint8 images become the input of the FID-Inception."""

    resize: Literal["tf1", "half_pixel", "pil_bicubic"]  # to 299 x 299; see rdm.score.resize
    rounding: Literal["none", "uint8"] = "none"  # of the resized values
    scale: Literal["(v-128)/128", "v/127.5-1"]


class InceptionScoreRule(Section):
    """How logits are split; see rdm.score.inception_score."""

    splits: PositiveInt | None = None
    split_size: PositiveInt | None = None
    shuffle_seed: Seed | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> InceptionScoreRule:
        """Either splits or split_size."""
        if (self.splits is None) == (self.split_size is None):
            raise ValueError("give either splits or split_size")
        return self


class PrecisionRecallRule(Section):
    """Precision and recall; see rdm.score.neighbours."""

    k: PositiveInt
    reference: PositiveInt | None = None  # only so many of the reference's items, spread evenly; None: all
    half: bool = False  # distances in float16


class KernelRule(Section):
    """KID; see rdm.score.kernel."""

    subsets: Annotated[int, Field(ge=0)] = 0  # 0: all pairs
    subset_size: Annotated[int, Field(ge=2)] = 1000
    seed: Seed = 2020

    @model_validator(mode="after")
    def all_pairs_are_not_drawn(self) -> KernelRule:
        """What would change nothing is refused."""
        for key in ("subset_size", "seed"):
            default = KernelRule.model_fields[key].default
            if self.subsets == 0 and getattr(self, key) != default:
                raise ValueError(f"{key} would change nothing with subsets: 0; leave it out, or at {default}")
        return self


class ClipRule(Section):
    """Which frames of which videos of one side."""

    stride: PositiveInt  # between frames
    offset: Literal["first", "random"]  # where in its video a clip starts
    videos: Literal["sorted", "random"]  # taken in sorted order, or shuffled


class Clips(Section):
    """How videos become clips, one of each video."""

    frames: PositiveInt
    reference: ClipRule
    reference_videos: PositiveInt | None = None  # so many of the reference, or all if it has fewer; None: all
    samples: ClipRule
    seed: Seed = 0  # of random offsets and orders
    as_frames: bool = False  # every frame is scored by itself, as an image

    @model_validator(mode="after")
    def seed_of_what_is_random(self) -> Clips:
        """What would change nothing is refused."""
        rules = (self.reference, self.samples)
        if self.seed and not any("random" in (rule.offset, rule.videos) for rule in rules):
            raise ValueError("seed would change nothing where nothing is random; leave it out, or at 0")
        return self


class Protocol(Section):
    """A named way to score; hashed into every result."""

    samples: PositiveInt  # how many samples, images or clips, are scored
    labels: Literal["reference", "balanced", "random", "captions"]  # how their labels or captions are dealt
    order: Literal["any", "random"] = "any"  # random: samples sorted by class are refused
    reference: Literal["train", "test"]  # the split that is scored against
    extractor: Literal["classifier", "inception", "i3d"]
    weights: Annotated[str, Field(pattern=r"^(sha256|git):[0-9a-f]{8,64}$")] | None = None  # None: as trained here
    pixels: Pixels | None = None
    clips: Clips | None = None
    mean: Literal["float64", "float32"] = "float64"  # precision in which features are averaged
    ddof: Literal[0, 1] = 1  # the covariance's divisor is n - ddof
    sfid: bool = False
    inception_score: InceptionScoreRule | None = None
    precision_recall: PrecisionRecallRule | None = None
    kernel_distance: KernelRule | None = None
    paper_scale: bool = False  # may be compared with the paper's numbers

    @property
    def frames(self) -> int:
        """So many neighbouring images belong to one sample."""
        return self.clips.frames if self.clips is not None and self.clips.as_frames else 1

    @model_validator(mode="after")
    def fits_the_extractor(self) -> Protocol:
        """Pixels are for the FID-Inception, clips for I3D or a classifier of clips; the rest needs their layers."""
        if (self.pixels is not None) != (self.extractor == "inception"):
            raise ValueError("pixels belong to extractor: inception, and it needs them")
        clips = self.clips is not None and not self.clips.as_frames
        if self.extractor != "classifier" and clips != (self.extractor == "i3d"):
            raise ValueError("clips belong to extractor: i3d or classifier; inception takes images or clips as_frames")
        if self.frames > 1 and (self.inception_score or self.precision_recall or self.kernel_distance):
            raise ValueError("frames of one clip are alike: as_frames gives FID and sFID alone")
        if self.extractor == "i3d" and (self.sfid or self.inception_score):
            raise ValueError("extractor: i3d gives features for FVD alone; no sfid or inception_score")
        return self
