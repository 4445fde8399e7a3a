"""Limits of the server: what one request, one job and all of them together may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits; what exceeds one is refused with a message that names it."""

    upload_bytes: int = 4 * 2**30
    """Largest upload."""
    body_bytes: int = 32 * 2**20
    """Largest body of any other request: strokes of a correction."""
    login_bytes: int = 4096
    """Largest body of a log-in, which needs no token."""
    free_bytes: int = 2**30
    """Space that uploads leave free on the disk."""
    chunk_seconds: float = 30.0
    """Longest wait for the next piece of a body: slow clients give up their place."""
    slowest_bytes: float = 1000.0
    """Bytes a second that a body brings at least, after that time."""
    files: int = 16
    """Files of one case: its channels, and the voxels of separate headers."""
    voxels: int = 2**31
    """Largest number of pixels or voxels of an image, by its header: 32,000 x 32,000 pixels are 10^9."""
    queued: int = 100
    """Jobs that wait."""
    kept: int = 1000
    """Finished jobs with their files; the oldest are removed."""
    together: int = 8
    """Jobs that run at the same time: small images, of which the tiles share passes of the network, and one that is
    not small. 1: one job after the other."""
    small_voxels: int = 2**20
    """Largest number of pixels or voxels of a small image."""
    job_seconds: float = 3600.0
    """Longest time of one prediction."""
    lease_idle_s: float = 600.0
    """Longest time without a use after which a lease ends, in seconds."""
    leases: int = 1000
    """Leases at the same time."""
    connections: int = 500
    """Open connections; others are told to come later."""
    training_minutes: float = 240.0
    """Longest training that a request may begin."""


DEFAULT_LIMITS = Limits()
