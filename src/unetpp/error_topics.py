"""Kinds of errors: cause, example and remedy of each. docs/errors.md is generated from this table."""

from __future__ import annotations

from dataclasses import dataclass

PAGE = "docs/errors.md"


@dataclass(frozen=True)
class Topic:
    """One section of docs/errors.md."""

    title: str
    cause: str
    example: str
    """A message, as the command line prints it."""
    remedy: str


TOPICS = {
    "usage": Topic(
        "An argument that cannot work",
        "An argument, or a combination of arguments, has no meaning: it was refused before any work was done.",
        "--fold: got '7'; expected 0 to 4, or all.",
        "Change the argument that the message names; `unetpp COMMAND --help` lists all of them.",
    ),
    "plan": Topic(
        "A setting or a plan",
        "A setting of `--set` or an entry of plan.json is unknown, out of range, or contradicts another one."
        " Numbers that are NaN or infinite are refused, because no file could hold them.",
        "train.gradient_clip: got inf; expected a finite number. Change it.",
        "Change the entry that the message names. `unetpp plan` writes a new plan, with a reason for each value.",
    ),
    "data": Topic(
        "The data set",
        "Cases, channels, splits or records do not fit together, or nothing was found where data was expected.",
        "images: got no images; expected image files. Check the path.",
        "Run `unetpp check DATA`: it lists every problem at once. [docs/data.md](data.md) shows how folders and"
        " tables are read.",
    ),
    "file": Topic(
        "A file that cannot be read",
        "A file is cut off, damaged, empty, of another format than its name says, or may not be read. In a folder"
        " of many, the others are still predicted.",
        "a.png: got a file that is truncated or not an image (broken PNG file); expected a whole .png image."
        " Restore it from the original, or remove it.",
        "Copy the file again from its source and compare the sizes. If another program opens it, save it there as"
        " TIFF, PNG or NIfTI.",
    ),
    "size": Topic(
        "A file that is too large",
        "An image does not fit into memory or onto the disk for temporary files, or its header claims more than"
        " the file can hold.",
        "a.tif: got an image that does not fit into memory; expected one that does. Check that the file is whole;"
        " if it is, cut it into pieces or use a machine with more memory.",
        "Check that the file is whole. Save it uncompressed or in tiles, which are read in blocks; or cut it into"
        " pieces. TMPDIR says where temporary files lie.",
    ),
    "pairs": Topic(
        "Images and labels that do not pair",
        "An image has no label, a label has no image, or several fit: names do not say which belongs to which.",
        "masks: got no label for a.png; expected one of the same stem. Add the label, or remove a.png.",
        "Give image and label the same name, or write a CSV table with the columns image and label.",
    ),
    "labels": Topic(
        "Labels whose meaning is unclear",
        "The values in label files can be read in several ways, as classes or as numbers of objects for example,"
        " and a wrong guess would train on nonsense.",
        "masks: got values from 0 to 37; expected numbers of objects or of classes: both are possible. Set"
        " data.labels.",
        "Say what they are, as the message does: `--set data.labels=objects`, `classes` or `binary:128`."
        " [docs/data.md](data.md) lists the meanings.",
    ),
    "grid": Topic(
        "Files of one case on different grids",
        "Files of one case differ in size, spacing, origin or direction.",
        "b_0001.nii.gz: got 20 x 64 x 64 voxels; expected 24 x 64 x 64 voxels, as b_0000.nii.gz. The files of one"
        " case must have the same size.",
        "Resample them onto one grid, or let labels be placed on the grid of their image: `--set"
        " data.label_grid=...`, see [docs/data.md](data.md).",
    ),
    "values": Topic(
        "Values that cannot be used",
        "A label holds values that no class has, or an image leads to outputs that are NaN or infinite.",
        "a.tif: got an output of the network that is NaN or infinite; expected finite numbers. Check the"
        " intensities of the image; if other images fail too, the model is damaged: copy it again.",
        "Look at the smallest and largest values of the file. `--set data.fill=0` replaces NaN and infinity in images.",
    ),
    "model-file": Topic(
        "A model file",
        "A model file, checkpoint or exported file is cut off, damaged, of another program or of another version."
        " Nothing in it was executed.",
        "model.safetensors: got the weight head.bias with numbers that are NaN or infinite; expected finite"
        " numbers. The file is damaged: copy it again, or train again.",
        "Copy it again and compare the sizes. `unetpp info FILE` tells whether it can be read; `unetpp import`"
        " reads checkpoints of other libraries.",
    ),
    "missing-extra": Topic(
        "An optional package is missing",
        "The format, backend or encoder needs a package that is not installed with unetpp by default; or unetpp was"
        " installed without torch ([export.md](export.md)), and the command needs it.",
        'Reading .nrrd files needs the package SimpleITK, which is not installed. Run: pip install "unetpp[medical]"',
        "Run the command in the message. README lists the extras.",
    ),
    "write": Topic(
        "An output that could not be written",
        "The disk is full, the folder may not be written, or it has vanished. What was there before is intact.",
        "out/a.png: got No space left on device; expected to write it. Free some space, or choose another --out.",
        "Free space, or choose another `--out`; then run the command again. `train --resume` continues from the"
        " last checkpoint.",
    ),
    "interrupted": Topic(
        "Stopped",
        "Ctrl-C or a signal ended the command, or one of several processes of a training is lost. Files that were"
        " written are complete.",
        "Stopped by SIGTERM after step 420; everything is saved. Continue: unetpp train DATA --out RUN --resume",
        "Run the same command again, `train` with `--resume` added: without it a training that has begun is refused.",
    ),
    "memory": Topic(
        "Out of memory",
        "The machine or the GPU has less memory than the work needs.",
        "Out of memory. Train with smaller batches (--set train.batch=1 predict.batch=1), or close other programs.",
        "Smaller batches, then a smaller `train.patch`; `train.checkpointing=cheap` needs less memory for some time.",
    ),
    "other": Topic(
        "Training that failed",
        "The work itself failed, such as a loss that is no longer finite.",
        "step 310: got a loss of nan; expected a finite number. Train into another --out with --set"
        " train.learning_rate=0.0003.",
        "Follow the last sentence of the message.",
    ),
    "unexpected": Topic(
        "An unexpected error",
        "A fault of unetpp or of a library that it uses.",
        "Unexpected error (KeyError): 'x'. Run the command again with --debug and open an issue.",
        "Run the command again with `--debug` and open an issue with its output, and with the file if one was named.",
    ),
}
"""Name of a topic, its anchor on the page -> what is said of it."""


def link_to(topic: str) -> str:
    """Return the place on the page of errors."""
    return f"{PAGE}#{topic}"
