"""Draw the family of networks from the code, and write the tables of docs/family.md.

    python docs/draw_family.py            write docs/family/*.svg and the generated parts of docs/family.md
    python docs/draw_family.py --check    write nothing; exit code 1 and the names of what is out of date

The nodes, their inputs and channels, the heads, parameters and multiply-adds all come from the package. Only this file
has the look of the pictures, the counts of the papers to compare with, and the origin of each dial.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from xml.sax.saxutils import escape

from unetpp.model.build import PRESETS, make_grid, model_plan
from unetpp.model.encoders import encoder_shape
from unetpp.model.grid import Grid, Node
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.weight_count import count_parameters
from unetpp.model.widths import node_width
from unetpp.plan import ModelPlan
from unetpp.planning.cost import count_cost
from unetpp.settings import field_notes

HERE = Path(__file__).parent
PAGE = HERE / "family.md"
SHAPES = {2: (256, 256), 3: (64, 64, 64)}
"""Of the image whose multiply-adds are counted, by dims."""

# --------------------------------------------------------------------------------------------------- the members


@dataclass(frozen=True)
class Member:
    """One network of the papers: its names in 2D and 3D, and what says so to `build_model`, beside preset="paper"."""

    name: str
    name_3d: str
    file: str
    fields: dict[str, Any]

    def plan(self, dims: int = 2, **fields: Any) -> ModelPlan:
        return model_plan(
            **{"preset": "paper", "dims": dims, "in_channels": 1, "out_channels": 1, **self.fields, **fields}
        )


UNET = Member("U-Net", "V-Net", "unet", {"topology": "unet"})
WIDE_UNET = Member("wide U-Net", "wide V-Net", "wide_unet", {"preset": "paper_wide_unet"})
UNET_PLUS = Member("UNet+", "VNet+", "unet_plus", {"topology": "unet+"})
UNET_E = Member("U-Net^e", "V-Net^e", "unet_e", {"topology": "unet_e"})
UNETPP = Member("UNet++", "VNet++", "unetpp", {"topology": "unet++"})
MEMBERS = (UNET, WIDE_UNET, UNET_PLUS, UNET_E, UNETPP)

REFERENCE: dict[tuple[str, int], tuple[str, str]] = {
    # (name, number of heads): parameters and multiply-adds by the papers' text, computed without this code
    ("U-Net", 1): ("7,759,521", "12.0 G"),
    ("wide U-Net", 1): ("9,282,246", "14.4 G"),
    ("UNet+", 1): ("8,728,257", "23.7 G"),
    ("U-Net^e", 4): ("8,728,356", ""),
    ("UNet++", 1): ("9,041,601", "29.75 G"),
    ("UNet++", 4): ("9,041,700", ""),
    ("L1", 1): ("100,961", "3.5 G"),
    ("L2", 1): ("511,105", "8.9 G"),
    ("L3", 1): ("2,204,961", "17.4 G"),
    ("V-Net", 1): ("22,575,329", "59.5 G"),
    ("wide V-Net", 1): ("27,006,176", ""),
    ("VNet+", 1): ("25,258,241", ""),
    ("VNet++", 1): ("26,198,273", "210 G"),
}

SMP_RESNET34: dict[str, Any] = {
    # UnetPlusPlus("resnet34") of segmentation_models.pytorch, to the last parameter
    "encoder": "resnet34",
    "stem": False,
    "deep_supervision": False,
    "nested_widths": [16, 64, 64, 128, 256],
    "node_widths": {"4_1": 256, "3_2": 128, "2_3": 64, "1_4": 32, "0_5": 16},
    "block": "plain",
    "norm": "batch",
    "activation": "relu",
    "up": "nearest",
    "concat": "up_skips_reversed",
    "head_kernel": 3,
}

# ---------------------------------------------------------------------------------------- SVG, as little as is needed

INK, PALE, PAPER = "#1a1a1a", "#b5b5b5", "#ffffff"
DOWN, UP, SKIP = "#a33327", "#1d5c9e", "#2c7a3f"
SHADE, FILL = "#efefef", "#dcdcdc"
Point = tuple[float, float]


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")  # + 0.0: there is no -0


def _tag(name: str, content: str = "", **attributes: Any) -> str:
    written = "".join(
        f' {key.replace("_", "-")}="{_number(value) if isinstance(value, (int, float)) else escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


class Svg:
    """Shapes in the order in which they are painted, on white, so that they can be read on a dark page too."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.size, self.title, self.description = (width, height), title, description
        self.shapes: list[str] = []

    def __str__(self) -> str:
        width, height = map(_number, self.size)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" fill="{INK}">'
        )
        told = [_tag("title", escape(self.title)), _tag("desc", escape(self.description))]
        return (
            "\n".join([head, *told, _tag("rect", width=width, height=height, fill=PAPER), *self.shapes, "</svg>"])
            + "\n"
        )

    def add(self, name: str, content: str = "", **attributes: Any) -> None:
        self.shapes.append(_tag(name, content, **attributes))

    def text(self, at: Point, content: str, size: float = 13, anchor: str = "middle", **attributes: Any) -> None:
        self.add("text", escape(content), x=at[0], y=at[1], font_size=size, text_anchor=anchor, **attributes)

    def symbol(self, at: Point, node: Node, size: float, colour: str = INK) -> None:
        """X with its indices raised."""
        indices = _tag("tspan", f"{node[0]},{node[1]}", dy=-0.36 * size, font_size=0.74 * size)
        self.add(
            "text",
            "X" + indices,
            x=at[0],
            y=at[1],
            font_size=size,
            text_anchor="middle",
            font_weight="bold",
            fill=colour,
        )

    def arrow(self, path: str, tip: Point, angle: float, colour: str, width: float, dashes: str | None = None) -> None:
        """A line along `path`, which ends at `tip` in the direction `angle`."""
        style = {"stroke_dasharray": dashes} if dashes else {}
        self.add("path", d=path, fill="none", stroke=colour, stroke_width=width, **style)
        corners = [tip, *(_moved(tip, angle + math.pi + turn, 8.5) for turn in (0.32, -0.32))]
        self.add("polygon", points=" ".join(f"{_number(x)},{_number(y)}" for x, y in corners), fill=colour)

    def straight(self, start: Point, end: Point, colour: str, width: float, dashes: str | None = None) -> None:
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        self.arrow(f"M{_point(start)} L{_point(_moved(end, angle, -6))}", end, angle, colour, width, dashes)


def _moved(point: Point, angle: float, length: float) -> Point:
    return point[0] + length * math.cos(angle), point[1] + length * math.sin(angle)


def _point(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


# --------------------------------------------------------------------------------------------------- one grid of nodes


@dataclass(frozen=True)
class Look:
    """Measures of a drawing, in pixels."""

    dx: float = 92
    dy: float = 116
    radius: float = 27
    font: float = 15
    line: float = 1.7
    channels: bool = True
    """Write the channels of each node into it."""


class GridDrawing:
    """The nodes of a plan: a row for each level, a column for each column.

    Args:
        svg: is painted on.
        plan: of the network.
        corner: centre of X[0, 0].
        kept: the nodes that are there; the others are drawn pale. None: all.
        heads: depths at which a head is drawn; None: all of the plan's.
    """

    def __init__(
        self,
        svg: Svg,
        plan: ModelPlan,
        corner: Point,
        look: Look,
        kept: Iterable[Node] | None = None,
        heads: tuple[int, ...] | None = None,
    ) -> None:
        self.svg, self.plan, self.corner, self.look = svg, plan, corner, look
        self.grid = make_grid(plan)
        own = self.grid.head_depths(plan.deep_supervision)
        self.heads = own if heads is None else heads
        self.nodes = self.grid.needed(own)
        self.kept = set(self.nodes if kept is None else kept)
        timm = plan.encoder not in (None, "resenc")
        self.given = (
            {(level, 0) for level in encoder_shape(str(plan.encoder), plan.depth, plan.output_stride).widths}
            if timm
            else set()
        )

    def draw(self) -> None:
        self._column()
        self._image()
        for node in self.nodes:
            if node in self.kept:
                self._arrows(node)
        for node in self.nodes:
            self._node(node)
        for depth in self.heads:
            self._head(depth)

    def at(self, node: Node) -> Point:
        return self.corner[0] + node[1] * self.look.dx, self.corner[1] + node[0] * self.look.dy

    def levels(self, x: float) -> None:
        """Write the number and the size of each level at the left."""
        steps = [1] * self.plan.dims
        for level in range(self.plan.depth + 1):
            steps = (
                [step * stride for step, stride in zip(steps, self.plan.strides[level - 1], strict=True)]
                if level
                else steps
            )
            y = self.at((level, 0))[1]
            self.svg.text((x, y - 2), f"level {level}", 12.5, "start")
            self.svg.text(
                (x, y + 14), "full size" if max(steps) == 1 else f"1/{steps[-1]}", 12.5, "start", fill="#555555"
            )

    def _image(self) -> None:
        """What goes in, and where."""
        svg, (x, y), radius = self.svg, self.corner, self.look.radius
        top = y - 2.75 * radius
        first = [(0, 0)] if self.plan.stem else []
        if self.given:
            first.append(min(self.given))
        svg.text((x, top - 6), "image", 13, font_style="italic")
        for node in first:
            end = self.at(node)
            if node == (0, 0) or not self.plan.stem:
                svg.straight((x, top), (x, end[1] - radius - 1), INK, self.look.line)
            else:
                side = x - 1.9 * radius
                svg.arrow(
                    f"M{_point((x - 24, top - 10))} H{_number(side)} V{_number(end[1])} H{_number(x - radius - 14)}",
                    (x - radius - 8, end[1]),
                    0,
                    INK,
                    self.look.line,
                )

    def _column(self) -> None:
        """A shade behind the encoder; a frame around the levels that a timm model gives."""
        levels = [i for i, j in self.kept if j == 0]
        self._stadium(min(levels), max(levels), fill=SHADE)
        if self.given:
            first, last = min(self.given)[0], max(self.given)[0]
            self._stadium(first, last, fill="none", stroke=INK)
            x, y = self.at((last, 0))
            self.svg.text((x, y + self.look.radius + 26), str(self.plan.encoder), 13, font_weight="bold")

    def _stadium(self, first: int, last: int, **style: Any) -> None:
        (x, top), bottom, reach = self.at((first, 0)), self.at((last, 0))[1], self.look.radius + 8
        self.svg.add(
            "rect", x=x - reach, y=top - reach, width=2 * reach, height=bottom - top + 2 * reach, rx=14, **style
        )

    def _arrows(self, node: Node) -> None:
        i, j = node
        for skip in self.grid.skips(node):
            self._skip(skip, node)
        if j > 0:
            self._between((i + 1, j - 1), node, UP, self.look.line)
        elif (i - 1, 0) in self.nodes and (node not in self.given or (i - 1, 0) in self.given):
            self._between((i - 1, 0), node, DOWN, 1.5 * self.look.line)

    def _between(self, source: Node, target: Node, colour: str, width: float) -> None:
        start, end = self.at(source), self.at(target)
        angle, reach = math.atan2(end[1] - start[1], end[0] - start[0]), self.look.radius + 1.5
        self.svg.straight(_moved(start, angle, reach), _moved(end, angle, -reach), colour, width)

    def _skip(self, source: Node, target: Node) -> None:
        """Straight, or an arc over the nodes in between, the higher the farther."""
        span, dashes = target[1] - source[1], f"{_number(3.2 * self.look.line)} {_number(2 * self.look.line)}"
        start, end, reach = self.at(source), self.at(target), self.look.radius + 1.5
        if not any((source[0], column) in self.nodes for column in range(source[1] + 1, target[1])):
            self.svg.straight((start[0] + reach, start[1]), (end[0] - reach, end[1]), SKIP, self.look.line, dashes)
            return
        angle = math.radians((0, 0, 30, 39, 47, 57)[min(span, 5)])
        first, last = _moved(start, -angle, reach), _moved(end, math.pi + angle, reach)
        neck, half = _moved(last, math.pi + angle, 6), (last[0] - first[0]) / 2
        top = (start[0] + (end[0] - start[0]) / 2, start[1] - self.look.radius * (0.66 + 0.46 * span))
        rising = (
            f"M{_point(first)} C{_point(_moved(first, -angle, 0.4 * half))} "
            f"{_point((top[0] - 0.5 * half, top[1]))} {_point(top)}"
        )
        falling = (
            f"C{_point((top[0] + 0.5 * half, top[1]))} "
            f"{_point(_moved(last, math.pi + angle, 0.4 * half))} {_point(neck)}"
        )
        self.svg.arrow(f"{rising} {falling}", last, angle, SKIP, self.look.line, dashes)

    def _node(self, node: Node) -> None:
        (x, y), look, there = self.at(node), self.look, node in self.kept
        colour = INK if there else PALE
        style: dict[str, Any] = {
            "fill": (FILL if node[1] == 0 else PAPER) if there else PAPER,
            "stroke": colour,
            "stroke_width": look.line if there else 1.0,
        }
        if not there:
            style["stroke_dasharray"] = "3 3"
        if node in self.given:
            self.svg.add(
                "rect",
                x=x - look.radius,
                y=y - look.radius,
                width=2 * look.radius,
                height=2 * look.radius,
                rx=5,
                **style,
            )
        else:
            self.svg.add("circle", cx=x, cy=y, r=look.radius, **style)
        self.svg.symbol((x, y + (0 if look.channels else 0.4 * look.font)), node, look.font, colour)
        if look.channels:
            self.svg.text((x, y + 1.0 * look.font), str(node_width(self.plan, node)), 0.82 * look.font, fill=colour)

    def _head(self, depth: int) -> None:
        """A tag that hangs on X[0, depth]."""
        x, y = self.at((0, depth))
        x += 0.22 * self.look.radius  # clear of the arrow from below
        half, height = 1.55 * self.look.font, self.look.font
        self.svg.add("rect", x=x - half, y=y + self.look.radius + 1, width=2 * half, height=height, rx=3, fill=INK)
        self.svg.text(
            (x, y + self.look.radius + 1 + 0.77 * height),
            f"head {depth}",
            0.72 * self.look.font,
            fill=PAPER,
            font_weight="bold",
        )


LINES = {
    "down-sampling D": (DOWN, 2.6, None),
    "up-sampling U": (UP, 1.7, None),
    "skip, concatenated": (SKIP, 1.7, "5.4 3.4"),
}
NODES = {"node H and its channels": (PAPER, 10), "the same, encoder": (FILL, 10), "given by the timm model": (FILL, 3)}
"""Fill, and radius of the corners."""


def _legend(svg: Svg, corner: Point, nodes: Iterable[str]) -> None:
    """What the lines and the named kinds of nodes mean."""
    x, y = corner
    for name in (*LINES, *nodes):
        if name in LINES:
            svg.straight((x, y), (x + 34, y), *LINES[name])
        else:
            fill, round_by = NODES[name]
            svg.add(
                "rect", x=x + 7, y=y - 10, width=20, height=20, rx=round_by, fill=fill, stroke=INK, stroke_width=1.5
            )
        svg.text((x + 44, y + 4.5), name, 12.5, "start")
        y += 25


# --------------------------------------------------------------------------------------------------- the pictures


def member_picture(member: Member) -> Svg:
    """The grid of one member of the family."""
    plan, look = member.plan(), Look()
    svg = Svg(540, 700, member.name, _described(plan))
    drawing = GridDrawing(svg, plan, (122, 188), look)
    _heading(svg, (20, 34), member.name, [_sizes(plan), _costs(plan)])
    drawing.levels(20)
    drawing.draw()
    _legend(svg, (326, 560), list(NODES)[:2])
    return svg


def pruning_picture() -> Svg:
    """What is left of the UNet++ at each depth, and what that costs."""
    plan, look = UNETPP.plan(), Look(dx=56, dy=66, radius=18.5, font=12, line=1.3, channels=False)
    depths = range(1, plan.depth + 1)
    svg = Svg(
        1172, 532, "UNet++ pruned", f"Which nodes are kept when a UNet++ of depth {plan.depth} is pruned to each depth."
    )
    whole = _cost_at(plan, plan.depth)
    for depth in depths:
        left = 20 + (depth - 1) * 290
        kept = make_grid(plan).needed([depth])
        _heading(svg, (left, 34), f"L{depth}", [f"{len(kept)} of {len(make_grid(plan).nodes())} nodes, head {depth}"])
        GridDrawing(svg, plan, (left + 24, 140), look, kept, (depth,)).draw()
        for row, (value, full, words) in enumerate(
            zip(_cost_at(plan, depth), whole, ("parameters", "G multiply-adds"), strict=True)
        ):
            y = 464 + 36 * row
            shown = f"{value:,} {words}" if row == 0 else f"{value / 1e9:.2f} {words}"
            svg.text((left, y), shown, 13, "start")
            svg.text((left + 250, y), f"{100 * value / full:.0f} %", 13, "end")
            svg.add("rect", x=left, y=y + 7, width=250, height=7, fill=PAPER, stroke=INK, stroke_width=0.8)
            svg.add("rect", x=left, y=y + 7, width=250 * value / full, height=7, fill=INK)
    return svg


def encoder_picture() -> Svg:
    """A UNet++ around an encoder of timm, and the one of segmentation_models.pytorch."""
    ours = model_plan(encoder="resnet34", in_channels=3, out_channels=1)
    peers = model_plan(in_channels=3, out_channels=1, **SMP_RESNET34)
    look = Look(dx=76, dy=98, radius=23, font=13, line=1.5)
    svg = Svg(
        1120,
        760,
        "UNet++ around a resnet34",
        "Left: nodes of its own at full resolution, a head at every depth. "
        "Right: rows start at half the resolution, one head.",
    )
    for left, title, plan in (
        (0, 'encoder="resnet34"', ours),
        (575, "the shape of segmentation_models.pytorch", peers),
    ):
        _heading(svg, (left + 20, 34), title, [_sizes(plan), _costs(plan)])
        drawing = GridDrawing(svg, plan, (left + 122, 176), look)
        drawing.levels(left + 14)
        drawing.draw()
    _legend(svg, (306, 610), NODES)
    return svg


def _heading(svg: Svg, at: Point, title: str, lines: Iterable[str]) -> None:
    name, _, raised = title.partition("^")
    svg.add(
        "text",
        escape(name) + (_tag("tspan", raised, dy=-7, font_size=14) if raised else ""),
        x=at[0],
        y=at[1],
        font_size=20,
        font_weight="bold",
    )
    for number, line in enumerate(lines, start=1):
        svg.text((at[0], at[1] + 2 + 18 * number), line, 13, "start", fill="#333333")


def _sizes(plan: ModelPlan) -> str:
    heads = make_grid(plan).head_depths(plan.deep_supervision)
    return f"{len(make_grid(plan).needed(heads))} nodes, {len(heads)} head{'s' * (len(heads) > 1)}"


def _costs(plan: ModelPlan) -> str:
    size = " x ".join(map(str, SHAPES[plan.dims]))
    return f"{count_parameters(plan):,} parameters, {_giga(plan)} multiply-adds at {size}"


def _described(plan: ModelPlan) -> str:
    grid = make_grid(plan)
    nodes = grid.needed(grid.head_depths(plan.deep_supervision))
    return "; ".join(f"{_named(node)} receives {_received(grid, node)}" for node in nodes if grid.sources(node)) + "."


def _giga(plan: ModelPlan, depth: int | None = None) -> str:
    return f"{count_cost(plan, SHAPES[plan.dims], depth).macs / 1e9:.2f} G"


def _cost_at(plan: ModelPlan, depth: int) -> tuple[int, int]:
    """Parameters and multiply-adds of what pruning leaves."""
    return count_parameters(prune_plan(plan, depth)), count_cost(plan, SHAPES[plan.dims], depth).macs


PICTURES: dict[str, Callable[[], Svg]] = {
    **{f"{member.file}.svg": partial(member_picture, member) for member in MEMBERS},
    "pruning.svg": pruning_picture,
    "encoder.svg": encoder_picture,
}
"""Each file of docs/family."""

# --------------------------------------------------------------------------------------------------- the tables

ORIGINS: dict[str, dict[str, str]] = {
    "The grid": {
        "preset": "",
        "topology": "Zhou 2018, 2019; Ronneberger 2015: unet",
        "dims": "Zhou 2018 (V-Net, VNet++)",
        "in_channels": "",
        "out_channels": "",
        "depth": "Zhou 2018: 4",
        "widths": "Zhou 2018: 32, 64, ...; nnU-Net: at most 320 in 3D",
        "nested_widths": "this project",
        "node_widths": "SMP's outer diagonal; MONAI's X[0,4]; Pytorch-Medical-Segmentation: by i + j",
        "shells": "this project; widths in one network: slimmable networks, MatFormer",
        "strides": "nnU-Net (thick slices)",
        "kernel_sizes": "nnU-Net (thick slices)",
        "nested_kernel_sizes": "nnU-Net v1",
    },
    "A node": {
        "convs_per_node": "Zhou 2018: 2; Pytorch-Medical-Segmentation: 3",
        "hidden_fraction": "Pytorch-Medical-Segmentation: 0.5",
        "block": "Zhou 2018: plain; He 2016; this project: projected",
        "norm": "Zhou 2018: none; SMP, pytorch-nested-unet: batch; MONAI, nnU-Net: instance; Wu and He 2018: group",
        "nested_norm": "UNet-Version: batch in the encoder, none elsewhere",
        "norm_groups": "Wu and He 2018",
        "activation": "Zhou 2018: ReLU; MONAI, nnU-Net: leaky",
        "leaky_slope": "nnU-Net: 0.01; MONAI: 0.1",
        "conv_bias": "Zhou 2018: yes; SMP: no; MONAI: beside a norm too",
        "dropout": "Zhou 2018: 0.5",
        "attention": "Roy 2018; SMP",
    },
    "From level to level": {
        "down": "Zhou 2018: pool; nnU-Net: first",
        "odd_sizes": "this project: ceil; MONAI: floor",
        "up": "Zhou 2018: transposed; UNet-Version: wide; pytorch-nested-unet: linear; SMP: nearest; "
        "Shi 2016, MONAI: pixel shuffle",
        "up_widths": "MONAI: half of what is below",
        "up_bias": "Zhou 2018: yes; nnU-Net: no",
        "up_projection": "MONAI without transposed convolutions",
        "align_corners": "pytorch-nested-unet, MONAI: true",
        "concat": "Zhou 2018, most peers: skips_up; UNet-Version: up_skips; SMP: up_skips_reversed",
    },
    "Heads": {
        "deep_supervision": "Zhou 2018, section 3.2",
        "head_kernel": "Zhou 2018: 1; SMP: 3",
        "head_bias": "Zhou 2018: yes; nnU-Net: no",
        "fusion": "UNet-Version: mean; Pytorch-Medical-Segmentation: learned",
    },
    "The encoder": {
        "encoder": "Zhou 2019 (VGG, ResNet, DenseNet); SMP; resenc: Isensee 2024",
        "encoder_weights": "timm",
        "encoder_blocks": "Isensee 2024",
        "stem": "SMP, Pytorch-Medical-Segmentation: rows start at half the resolution",
        "divisor": "SMP: 32",
        "output_stride": "Pytorch-Medical-Segmentation: 2",
    },
}
"""Where each dial comes from: the paper that proposed it, or who has it so."""


def member_table() -> str:
    """Which nodes each member has and what they receive."""
    rows = []
    for member in MEMBERS:
        plan = member.plan()
        grid = make_grid(plan)
        said = ", ".join(f'{key}="{value}"' for key, value in {"preset": "paper", **member.fields}.items())
        heads = ", ".join(_named((0, depth)) for depth in grid.head_depths(plan.deep_supervision))
        rows.append(
            [
                _printed(member.name),
                _printed(member.name_3d),
                f"`{said}`",
                str(len(grid.nodes())),
                _received(grid, (0, plan.depth)),
                heads,
            ]
        )
    return _table(
        ["network", "in 3D", "`build_model`", "nodes", f"{_named((0, MEMBERS[0].plan().depth))} receives", "heads on"],
        rows,
    )


def count_table(dims: Literal[2, 3]) -> str:
    """Parameters and multiply-adds of the paper's networks beside the reference."""
    rows = []
    for member in MEMBERS:
        name = member.name if dims == 2 else member.name_3d
        for supervised in (False, True):
            plan = member.plan(dims, deep_supervision=supervised)
            heads = len(make_grid(plan).head_depths(supervised))
            if (supervised and heads == 1) or (
                not supervised and member is UNET_E
            ):  # a decoder without a head is none: one head would make it a U-Net
                continue
            parameters, macs = REFERENCE.get((name, heads), ("", ""))
            rows.append([_printed(name), str(heads), f"{count_parameters(plan):,}", parameters, _giga(plan), macs])
    size = " x ".join(map(str, SHAPES[dims]))
    return _table(
        ["network", "heads", "parameters", "reference", f"multiply-adds at {size}", "reference"],
        rows,
        right=(1, 2, 3, 4, 5),
    )


def cost_sentence() -> str:
    """What the dense skips cost."""
    times = []
    for dims in (2, 3):
        nested, plain = UNETPP.plan(dims, deep_supervision=False), UNET.plan(dims)
        times.append(count_parameters(nested) / count_parameters(plain))
        times.append(count_cost(nested, SHAPES[dims]).macs / count_cost(plain, SHAPES[dims]).macs)
    return (
        "A UNet++ has {:.2f} times the parameters of the U-Net and {:.2f} times its multiply-adds; "
        "in 3D, {:.2f} and {:.2f} times."
    ).format(*times)


def smp_block() -> str:
    """The fields that give the network of segmentation_models.pytorch, as code."""
    fields = ",\n".join(f"    {name}={_json(value).replace('false', 'False')}" for name, value in SMP_RESNET34.items())
    return f"```python\nsmp_shape = unetpp.build_model(\n    in_channels=3,\n    out_channels=1,\n{fields},\n)\n```"


def pruning_table() -> str:
    """The figures of the pruning picture."""
    plan = UNETPP.plan()
    whole, rows = _cost_at(plan, plan.depth), []
    for depth in range(1, plan.depth + 1):
        parameters, macs = _cost_at(plan, depth)
        expected, about = REFERENCE.get((f"L{depth}", 1)) or REFERENCE[UNETPP.name, 1]
        nodes, shares = (
            len(make_grid(plan).needed([depth])),
            [f"{100 * part / full:.0f} %" for part, full in zip((parameters, macs), whole, strict=True)],
        )
        rows.append(
            [f"L{depth}", str(nodes), f"{parameters:,}", expected, shares[0], f"{macs / 1e9:.2f} G", about, shares[1]]
        )
    return _table(
        ["depth", "nodes", "parameters", "reference", "of all", "multiply-adds", "reference", "of all"],
        rows,
        right=tuple(range(1, 8)),
    )


def dial_table() -> str:
    """Every field of `plan.model`: what it does, its values, its default and where it comes from."""
    known, told = {name for group in ORIGINS.values() for name in group}, field_notes(ModelPlan)
    for name in sorted(known ^ set(ModelPlan.model_fields)):
        raise SystemExit(
            f"model.{name}: got {'no field of this name' if name in known else 'a field without its origin'}; "
            f"expected them to agree. Change ORIGINS in {Path(__file__).name}."
        )
    for name in sorted(known - set(told)):
        raise SystemExit(f"model.{name}: got no docstring; expected one. Add it in model_plan.py.")
    defaults = model_plan().model_dump(mode="json")
    parts = []
    for title, group in ORIGINS.items():
        rows = [
            [f"`{name}`", _values(ModelPlan.model_fields[name]), f"`{_json(defaults[name])}`", told[name], origin]
            for name, origin in group.items()
        ]
        parts.append(f"**{title}**\n\n" + _table(["field", "values", "default", "what it does", "comes from"], rows))
    return "\n\n".join(parts)


def preset_table() -> str:
    """The fields in which the presets differ."""
    plans = {name: model_plan(preset=name).model_dump(mode="json") for name in PRESETS}
    differing = [
        field
        for field in ModelPlan.model_fields
        if field != "preset" and len({_json(plan[field]) for plan in plans.values()}) > 1
    ]
    return _table(
        ["field", *(f"`{name}`" for name in plans)],
        [[f"`{field}`", *(f"`{_json(plan[field])}`" for plan in plans.values())] for field in differing],
    )


def _table(head: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, rule, *rows])


def _named(node: Node) -> str:
    return f"X[{node[0]},{node[1]}]"


def _received(grid: Grid, node: Node) -> str:
    i, j = node
    if j == 0:
        return f"D({_named((i - 1, 0))})"
    return ", ".join([*map(_named, grid.skips(node)), f"U({_named((i + 1, j - 1))})"])


def _values(field: Any) -> str:
    """What a field takes, as `--set` is given it."""
    optional = type(None) in get_args(field.annotation)
    return ", ".join(
        _kind(kind, field.metadata) for kind in (get_args(field.annotation) if optional else [field.annotation])
    )


def _kind(kind: Any, bounds: Iterable[Any] = ()) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{_json(value)}`" for value in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list for each" if get_origin(get_args(kind)[0]) is tuple else "a list of numbers"
    if get_origin(kind) is dict:
        return "numbers by node"
    if get_origin(kind) is Annotated:
        return _kind(kind.__origin__, kind.__metadata__)
    if kind in (int, float):
        return _range(kind, bounds)
    return {type(None): "`null`", bool: "`true`, `false`", str: "text"}[kind]


def _range(kind: type, bounds: Iterable[Any]) -> str:
    parts = [part for bound in bounds for part in getattr(bound, "metadata", [bound])]
    limits = {name: getattr(part, name) for part in parts for name in ("ge", "gt", "le", "lt") if hasattr(part, name)}
    if kind is int and set(limits) == {"ge"}:
        return f"{limits['ge']}, {limits['ge'] + 1}, ..."
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[name]} {limit}" for name, limit in limits.items()) or "a number"


def _json(value: Any) -> str:
    return json.dumps(value)


def _printed(name: str) -> str:
    """A member's name in Markdown."""
    return name.replace("^e", "<sup>e</sup>")


TABLES: dict[str, Callable[[], str]] = {
    "members": member_table,
    "counts in 2D": lambda: count_table(2),
    "counts in 3D": lambda: count_table(3),
    "cost": cost_sentence,
    "pruning": pruning_table,
    "the shape of segmentation_models.pytorch": smp_block,
    "presets": preset_table,
    "dials": dial_table,
}
"""Each generated part of the page, by the name in its marks."""

# ---------------------------------------------------------------------------------------- writing and checking


def written_page(text: str, tables: Iterable[str] = TABLES) -> str:
    """The page with its generated parts made anew."""
    for name in tables:
        first, last = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        if text.count(first) != 1 or text.count(last) != 1:
            raise SystemExit(
                f"{PAGE.name}: got no single {first} ... {last}; expected these marks around the table. Put them back."
            )
        before, _, rest = text.partition(first)
        text = f"{before}{first}\n\n{TABLES[name]()}\n\n{last}{rest.partition(last)[2]}"
    return text


def contents() -> dict[Path, str]:
    """Every file that is made here, with what it should hold."""
    made = {HERE / "family" / name: str(picture()) for name, picture in PICTURES.items()}
    return {**made, PAGE: written_page(PAGE.read_text(encoding="utf-8"))}


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = {
        path: content
        for path, content in contents().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    }
    for path, content in stale.items():
        if arguments:
            print(
                f"{path}: got a file that is out of date; expected what the code says. Run python docs/draw_family.py.",
                file=sys.stderr,
            )
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
