"""Checkpoints of other libraries with a UNet++, read into ours and, where a network fits, written back."""

from unetpp.deploy.peers.imported import PEERS, ImportedModel, import_file

__all__ = ["PEERS", "ImportedModel", "import_file"]
