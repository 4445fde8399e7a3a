"""Checkpoints of other libraries with a UNet++, read into ours and, where a network fits, written back."""

from unetpp.deploy.peers.exported import PeerModel
from unetpp.deploy.peers.imported import PEERS, ImportedModel, import_file
from unetpp.deploy.peers.monai import to_monai
from unetpp.deploy.peers.smp import to_smp

__all__ = ["PEERS", "ImportedModel", "PeerModel", "import_file", "to_monai", "to_smp"]
