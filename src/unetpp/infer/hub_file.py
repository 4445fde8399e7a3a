"""The model file in a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unetpp.errors import ModelFileError, optional_package
from unetpp.run_folder import MODEL

HUB = "hf://"
"""Prefix of a path that names a repository."""


def download(repository: str, **options: Any) -> Path:
    """Download the model of a repository, unless it is in the cache of huggingface_hub.

    Args:
        repository: owner/name.
        options: options of huggingface_hub: revision, token, cache_dir, local_files_only, ...

    Returns:
        The model file in the cache.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ModelFileError: there is no such repository, or it cannot be reached.
    """
    with optional_package("huggingface_hub", "hub", "a model of the Hugging Face hub"):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    try:
        return Path(hf_hub_download(repository, MODEL, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        got = f"neither a folder with {MODEL} nor a repository that has one"
        raise ModelFileError(repository, got, "either", "Check the name, and the connection.") from error
