"""The section `data` of the plan: how images and labels are read, and what their values mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from unetpp.settings import Frozen, Positive, PositiveFloat, require

Resolution = Literal["full", "low", "cascade"]
MOST_CLASSES_OF_CASCADE = 4095
"""Number of classes from which two class indices, those of a label and of a first stage, do not fit in a float32."""
Byte = Annotated[int, Field(ge=0, le=255)]


class Normalization(Frozen):
    """Intensity normalization of one channel, the same in training and prediction.

    The value is clipped to [lower, upper] where these are given, then becomes (value - mean) / std.
    With `per_case`, mean and standard deviation are those of the case at hand (MRI, photographs, microscopy: no
    absolute scale); otherwise they are the numbers given here (CT: Hounsfield units). `scale` and `nonzero` are those
    of nnU-Net's RescaleTo01Normalization and of its mask for normalization.
    """

    per_case: bool = True
    """Take mean and standard deviation from each case instead of `mean` and `std`."""
    lower: float | None = None
    """Lower clipping bound; null: none."""
    upper: float | None = None
    """Upper clipping bound; null: none."""
    mean: float = 0.0
    """Subtracted from each value, unless `per_case`."""
    std: PositiveFloat = 1.0
    """Divides each value, unless `per_case`."""
    scale: Literal["z_score", "0_to_1"] = "z_score"
    """With `per_case`, z_score: mean 0 and standard deviation 1; 0_to_1: from the smallest to the largest value."""
    nonzero: bool = False
    """With `per_case`, take mean and standard deviation of the voxels that are not 0 in every channel; the others
    become 0. For images that are empty around a body or a brain."""

    @model_validator(mode="after")
    def _scales_agree(self) -> Self:
        require(
            (self.scale == "z_score" or self.per_case, "data.normalization", "`scale` 0_to_1 with `per_case` alone"),
            (
                not self.nonzero or (self.per_case and self.scale == "z_score"),
                "data.normalization",
                "`nonzero` with `per_case` and `scale` z_score alone",
            ),
        )
        return self


class LabelPlan(Frozen):
    """What the values of the label files mean; `labels.meaning` decides it from all files together.

    As a setting also a text: a kind, then what belongs to it, such as "binary:128", "classes,ignore:255", "objects" or
    "colors:background=#000000,tumor=#ff0000".
    """

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    kind: Literal["classes", "binary", "objects", "colors", "segments", "channels"] = "classes"
    """classes: the values of `data.label_values`; binary: cut at `cut`; objects: every value above 0 is one object, and
    all objects are foreground; colors: those of `colors`; segments: by the names in the header (3D Slicer); channels:
    one binary channel for each class."""
    cut: PositiveFloat | None = None
    """binary: values from this one on are foreground; null: from half of the range of each file (0 to 1, to 255 or to
    65535)."""
    colors: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    """colors: red, green and blue (0 to 255) of each class, background first."""
    names: tuple[str, ...] | None = None
    """colors: name of the class of each color; null: those of `data.classes`."""
    ignore: int | None = None
    """Value of voxels that nobody labeled: they count neither in the loss nor in a score; null: there are none. Of
    colors, red * 65536 + green * 256 + blue."""
    inverted: bool = False
    """Invert the numbers of files whose header says that 0 is white."""

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        return parse_label_text(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        colors, names = self.colors or (), self.names
        require(
            (self.cut is None or self.kind == "binary", "data.labels", "`cut` with the kind binary alone"),
            (not colors or self.kind == "colors", "data.labels", "colors with the kind colors alone"),
            (names is None or len(names) == len(colors), "data.labels", "a name for each color"),
            (len(set(colors)) == len(colors) != 1, "data.labels", "at least two colors, which differ"),
        )
        return self

    def to_text(self) -> str:
        """Write the setting as a text."""
        text = f"{self.kind}:{self.cut:g}" if self.cut else self.kind
        if self.colors and self.names:
            pairs = zip(self.names, self.colors, strict=True)
            text += ":" + ",".join(f"{name}=#{bytes(color).hex()}" for name, color in pairs)
        ignore = f"#{self.ignore:06x}" if self.kind == "colors" and self.ignore is not None else self.ignore
        return text + (f",ignore:{ignore}" if ignore is not None else "") + (",inverted" if self.inverted else "")


def parse_label_text(text: str) -> dict[str, Any]:
    """Read a text such as "binary:128" as the fields of a `LabelPlan`; raises ValueError with what is expected."""
    fields: dict[str, Any] = {}
    colors: dict[str, tuple[int, int, int]] = {}
    for place, part in enumerate(text.strip().removeprefix("colors:").split(",")):
        part = part.strip()
        word, _, value = part.partition(":")
        name, _, color = part.partition("=")
        try:
            if color:
                red, green, blue = bytes.fromhex(color.removeprefix("#"))
                colors[name] = red, green, blue
            elif word == "ignore":
                fields["ignore"] = int(value[1:], 16) if value.startswith("#") else int(value)
            elif part == "inverted":
                fields["inverted"] = True
            elif place == 0 and word in ("classes", "binary", "objects", "colors", "segments", "channels"):
                fields["kind"] = word
                if value:
                    fields["cut"] = float(value)
            else:
                raise ValueError(part)
        except ValueError:
            require((False, "data.labels", f"a text such as {LABEL_TEXTS}"))
    if colors:
        fields |= {"kind": "colors", "names": tuple(colors), "colors": tuple(colors.values())}
    return fields


LABEL_TEXTS = '"classes", "binary:128", "objects", "colors:background=#000000,tumor=#ff0000" or "classes,ignore:255"'


class Region(Frozen):
    """A region: the union of some classes, with a logit of its own. Regions may overlap, as a tumor and its core."""

    name: str
    """Its name, under which it is scored."""
    values: Annotated[tuple[int, ...], Field(min_length=1)]
    """Its label values, of `data.label_values`; `predict` writes the first of them."""


def parse_region_text(value: Any) -> Any:
    """Read a text such as "whole=1+2+3,core=2+3" as regions; others are returned. Raises ValueError."""
    if not isinstance(value, str):
        return value
    regions = []
    for part in value.split(","):
        name, _, numbers = part.strip().partition("=")
        try:
            regions.append({"name": name.strip(), "values": [int(number) for number in numbers.split("+")]})
        except ValueError:
            require((False, "data.regions", f'a text such as "{REGION_TEXT}"'))
    return regions


def describe_regions(regions: Iterable[Region]) -> str:
    """Describe regions with their values, as "1+2+3 = whole, 2+3 = core"."""
    return ", ".join(f"{'+'.join(map(str, region.values))} = {region.name}" for region in regions)


REGION_TEXT = "whole=1+2+3,core=2+3,enhancing=3"
Regions = Annotated[Annotated[tuple[Region, ...], Field(min_length=1)] | None, BeforeValidator(parse_region_text)]


class ReadPlan(Frozen):
    """How files are read, as far as the user can set it before anything is known of the data."""

    dims: Literal[2, 3] | None = None
    """Number of spatial axes; 2 takes each plane of a volume, its slices as they are stored, as an image; null: that of
    the files."""
    axes: str | None = None
    """Axes of TIFF and NumPy files in their order, such as "CYX" (Z planes, C channels, T time); null: as files say."""
    channels: tuple[str, ...] | None = None
    """Name of each input channel, such as ["CT"]; null: as the data set declares them."""
    fill: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Number that replaces NaN and infinity in images, in training and prediction; null: they are refused."""
    label_grid: Literal["file", "image"] = "file"
    """Place of labels: that of their own header, or image: their header is wrong, they lie on the image's grid."""
    labels: LabelPlan | None = None
    """Meaning of the label values; null: found from the files."""


AS_FILES_SAY = ReadPlan()
"""Files are read as they describe themselves."""


class ChannelRange(Frozen):
    """Intensities of one channel: smallest and largest value, over the training images, of two percentiles."""

    low: tuple[float, float]
    """Of percentile 1."""
    high: tuple[float, float]
    """Of percentile 99."""


class TrainingRange(Frozen):
    """What the training images were like; of a new image that is not, no Dice is expected."""

    smallest_mm: tuple[PositiveFloat, ...] | None = None
    """Smallest voxel size along each axis; null: not every file has one."""
    largest_mm: tuple[PositiveFloat, ...] | None = None
    """Largest voxel size along each axis."""
    channels: tuple[Positive, ...]
    """Numbers of channels in the files; three equal ones of a format of colors count as one."""
    intensities: tuple[ChannelRange, ...]
    """Intensities of each channel: as in the files or, where `normalization` is per case, in standard deviations from
    the mean of the image."""

    def fits(self, dims: int, channels: int) -> bool:
        """Tell whether it describes images of so many axes and channels."""
        sizes = [sizes for sizes in (self.smallest_mm, self.largest_mm) if sizes is not None]
        return len(sizes) in (0, 2) and all(len(each) == dims for each in sizes) and len(self.intensities) == channels


class DataPlan(ReadPlan):
    """The images, their classes, and how both are read."""

    dims: Literal[2, 3]
    """Number of spatial axes: 2 for images, 3 for volumes."""
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Name of each input channel. ("red", "green", "blue") accepts grey images too: their channel is repeated."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """Name of each class, background first."""
    label_values: tuple[int, ...]
    """Value of each class in label files, in the order of `classes`; `predict` writes the same values."""
    labels: LabelPlan = LabelPlan()
    """Meaning of the values in label files."""
    regions: Regions = None
    """Regions, unions of classes, each with a logit and a sigmoid of its own and scored by itself; null: classes, of
    which each voxel has one. As a text "whole=1+2+3,core=2+3,enhancing=3": `predict` writes the first value of each,
    later regions over earlier ones."""
    orientation: Literal["RAS"] | None = None
    """Order and direction of the axes inside: RAS turns every volume so that X runs to the right, Y to the front and Z
    to the head, and predictions back; null: axes as the files store them."""
    spacing_mm: tuple[PositiveFloat, ...] | None = None
    """Voxel size in mm, along the axes of `orientation`, to which images whose own differs by more than 1 % are
    resampled; null: each case keeps its own grid."""
    resampling: Literal["linear", "cubic"] = "linear"
    """How images are resampled to `spacing_mm`. linear; cubic: by cubic convolution, but along slices more than 3 times
    as thick as their pixels by the nearest slice, images and predictions alike (as in nnU-Net)."""
    voxel_mm: tuple[PositiveFloat, ...] | None = None
    """Typical voxel size in mm on the network's grid, where files have one; decides which axes are treated alike."""
    resolution: Resolution = "full"
    """full: one network on the grid of the images; low: one on a coarser grid, of which a patch shows more; cascade:
    low resolution first, whose segmentation the network reads as further channels, one for each foreground class or
    region."""
    normalization: tuple[Normalization, ...]
    """Intensity normalization of each channel."""
    training_range: TrainingRange | None = None
    """What the training images were like, to which `predict` compares each new one; null: unknown."""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Read the field `instances` of plans from before `labels`."""
        if isinstance(values, dict) and "instances" in values:
            values = dict(values)
            if values.pop("instances") and values.get("labels") is None:
                values["labels"] = {"kind": "objects"}
        return values

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        """Number of channels that the network reads: those of the image, and of a cascade those of the first stage."""
        return len(self.channels) + (len(self.scored) if self.resolution == "cascade" else 0)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Name of each logit of the network: the classes, background first, or the regions."""
        return self.scored if self.regions else self.classes

    @property
    def scored(self) -> tuple[str, ...]:
        """Name of what is scored, each by itself: the foreground classes, or the regions."""
        return tuple(region.name for region in self.regions) if self.regions else self.classes[1:]

    def describe_classes(self) -> str:
        """Describe the classes, or the regions, with their values."""
        if self.regions:
            return describe_regions(self.regions)
        return ", ".join(f"{value} = {name}" for value, name in zip(self.label_values, self.classes, strict=True))

    @property
    def region_indices(self) -> tuple[tuple[int, ...], ...] | None:
        """Class indices of each region, first the one that is written where it was found; None without regions."""
        if not self.regions:
            return None
        return tuple(tuple(self.label_values.index(value) for value in region.values) for region in self.regions)

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        axes = {"data.spacing_mm": self.spacing_mm, "data.voxel_mm": self.voxel_mm}
        require(
            (self.orientation is None or self.dims == 3, "data.orientation", "null in 2D (data.dims)"),
            (self.resolution == "full" or self.dims == 3, "data.resolution", "full in 2D (data.dims)"),
            (
                self.resolution != "cascade" or self.num_classes < MOST_CLASSES_OF_CASCADE,
                "data.resolution",
                f"full or low with more than {MOST_CLASSES_OF_CASCADE - 1} of data.classes",
            ),
            (
                self.training_range is None or self.training_range.fits(self.dims, len(self.channels)),
                "data.training_range",
                "a number for each axis, intensities for each of data.channels; or null",
            ),
            (len(self.label_values) == len(self.classes), "data.label_values", "one value for each of data.classes"),
            (len(set(self.label_values)) == len(self.label_values), "data.label_values", "values that differ"),
            (len(set(self.classes)) == len(self.classes), "data.classes", "names that differ: scores are kept by name"),
            *self._check_regions(),
            (
                len(self.normalization) == len(self.channels),
                "data.normalization",
                "one entry for each of data.channels",
            ),
            *(
                (sizes is None or len(sizes) == self.dims, name, f"{self.dims} numbers (data.dims)")
                for name, sizes in axes.items()
            ),
        )
        return self

    def _check_regions(self) -> list[tuple[bool, str, str]]:
        """List the conditions of regions."""
        regions, foreground = self.regions or (), {*self.label_values[1:]}
        values = {value for region in regions for value in region.values}
        listed = ", ".join(map(str, sorted(foreground)[:8])) + ", ..." * (len(foreground) > 8)
        written = {region.values[0] for region in regions}
        names = {region.name for region in regions} - {""}
        contents = {frozenset(region.values) for region in regions}
        kind = self.labels.kind
        if regions and kind != "classes":
            expected = f"null, because `data.labels` is {kind}: regions are unions of the values of label files"
            return [(False, "data.regions", expected)]
        rows = [
            (values <= foreground, f"values of foreground classes: {listed}"),
            (values == foreground, f"every foreground value in a region: {listed}"),
            (all(len({*each.values}) == len(each.values) for each in regions), "each value once in a region"),
            (len(contents) == len(regions), "regions that differ in their values"),
            (len(names) == len(regions), "names that differ: scores are kept by name"),
            (len(written) == len(regions), "a first value of each region, which is written, that differs from others"),
        ]
        return [(fits, "data.regions", expected) for fits, expected in rows if regions]
