"""Checkpoints of other libraries with a UNet++: converted into model files and, where a network fits, back."""

from unetpp.peers.exporting import PeerModel
from unetpp.peers.importing import PEERS, import_file
from unetpp.peers.monai import to_monai
from unetpp.peers.smp import to_smp

__all__ = ["PEERS", "PeerModel", "import_file", "to_monai", "to_smp"]
