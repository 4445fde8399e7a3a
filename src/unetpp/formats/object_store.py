"""Folders and buckets alike: objects by their keys, below a path or an address (s3://, gs://, az://, https://).

obstore reads and writes them, and finds credentials where it always does (variables such as AWS_ACCESS_KEY_ID, or the
machine). They never reach a message: of what a server says only its status and code are passed on.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import Any

from unetpp.errors import DataError, Problem, UnetppError, WriteError, optional_package

_SCHEMES = ("s3", "gs", "az", "https", "http")
_FOLDED = re.compile(rf"({'|'.join(_SCHEMES)}):/+(.*)", re.DOTALL)
"""An address that was a `Path` for a while, which has one slash."""
_SECRET = re.compile(r"(?<=//)[^/@]*@|\?.*$")
"""User and password, and signatures, in an address."""
_STATUS = re.compile(r"\b([45]\d\d) [A-Z][A-Za-z ]+")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_OS_ERROR = re.compile(r"\(os error ([0-9]+)\)")
_RETRY_S = 180
"""Seconds for which an object is asked for again while a server answers with an error of its own (5xx)."""
_BACKOFF: dict[str, Any] = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 3}
PURPOSE = "Reading and writing OME-Zarr"


def name_place(path: str | PathLike[str]) -> str:
    """Return the text of a path or an address, also of an address that was made a `Path`."""
    text = str(path)
    folded = _FOLDED.fullmatch(text)
    return f"{folded[1]}://{folded[2]}".rstrip("/") if folded else text


def is_address(path: str | PathLike[str]) -> bool:
    """Tell whether a path is the address of an object store."""
    return _FOLDED.fullmatch(str(path)) is not None


def hide_secrets(place: str) -> str:
    """Return an address without user, password and signature, for messages and records."""
    return _SECRET.sub("", place) if is_address(place) else place


@dataclass(frozen=True)
class Objects:
    """The objects below a path or an address. Workers get it by its text, and open it themselves."""

    place: str

    def __str__(self) -> str:
        return hide_secrets(self.place)

    def read(self, key: str) -> bytes | None:
        """Read an object; None: there is none."""
        with store_failures(str(self)):
            try:
                return bytes(_obstore().get(_open(self.place), key).bytes())
            except FileNotFoundError:
                return None

    def read_or_none(self, key: str) -> bytes | None:
        """Read an object; None also where the store does not tell whether there is one (without the right to list)."""
        try:
            return self.read(key)
        except DataError as error:
            if _is_refusal(error.__cause__):
                return None
            raise

    def write(self, key: str, content: bytes) -> None:
        """Write an object, all of it or nothing."""
        with store_failures(str(self), writes=True):
            _obstore().put(_open(self.place), key, content)

    def delete(self, keys: list[str]) -> None:
        """Delete objects; those that are not there are no error."""
        with store_failures(str(self), writes=True):
            for key in keys:
                with suppress(FileNotFoundError):
                    _obstore().delete(_open(self.place), key)

    def list_keys(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """List the keys below a prefix, which is a folder, with the time at which each was written."""
        with store_failures(str(self)):
            for batch in _obstore().list(_open(self.place), prefix):
                for each in batch:
                    yield each["path"], each["last_modified"]

    def zarr(self, writes: bool = False) -> Any:
        """Return the store for zarr."""
        from zarr.storage import ObjectStore

        return ObjectStore(_open(self.place), read_only=not writes)


def open_objects(path: str | PathLike[str], writes: bool = False) -> Objects:
    """Open a folder or an address; `writes` makes the folder.

    Raises:
        DataError: no such folder, or no such kind of address.
        MissingExtraError: zarr or obstore is not installed.
        WriteError: the folder cannot be made.
    """
    place = name_place(path)
    with optional_package("zarr", "cluster", PURPOSE):
        import zarr.storage  # noqa: F401
    with optional_package("obstore", "cluster", PURPOSE):
        import obstore  # noqa: F401
    if not is_address(place):
        folder = Path(place)
        if writes:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WriteError(folder, error.strerror or str(error), "a folder", "Choose another `out`.") from error
        elif not folder.is_dir():
            raise DataError(Problem(place, "no such folder", "an OME-Zarr image", "Check the path."))
        place = str(folder.absolute())
    with store_failures(hide_secrets(place), writes):
        _open(place)
    return Objects(place)


@contextmanager
def store_failures(where: str, writes: bool = False) -> Iterator[None]:
    """Turn what a store or a decoder raises into one message without credentials.

    Args:
        where: the place, without secrets.
        writes: it is written to.

    Raises:
        DataError: it cannot be read.
        WriteError: it cannot be written.
    """
    try:
        yield
    except UnetppError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # obstore raises OSError and errors of its own, codecs raise anything
        got, action = _describe(error, writes)
        if writes:
            raise WriteError(where, got, "to write it", action) from error
        raise DataError(Problem(where, got, "what can be read", action)) from error


def _describe(error: Exception, writes: bool) -> tuple[str, str]:
    """Describe a failure, and what to do, without the words of a server, which may repeat signatures."""
    text, kind = str(error), type(error).__name__
    said = [match[0].strip() for match in (_STATUS.search(text),) if match]
    said += [match[1] for match in (_CODE.search(text),) if match]
    status = f" ({', '.join(said)})" if said else ""
    if _is_refusal(error):
        action = (
            "Ask for the right to write there, or choose another `out`." if writes else "Ask for the right to read it."
        )
        return f"a refusal{status}", f"{action} Credentials are taken from variables such as AWS_ACCESS_KEY_ID."
    if "credential" in text.lower() or "169.254.169.254" in text:
        return (
            "no credentials",
            "Set them, for example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or AWS_SKIP_SIGNATURE.",
        )
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
        return f"nothing there{status}", "Check the address."
    number = _OS_ERROR.search(text)
    if number is not None:
        return os.strerror(int(number[1])), "Free some space, or choose another `out`." if writes else "Check the path."
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, "Choose another `out`." if writes else "Check the path."
    if isinstance(error, OSError) or kind in ("GenericError", "BaseError"):
        action = "Check the address and the network, then run the command again with `resume=True`."
        return f"no answer that helps{status or f' ({kind})'}", action
    return (
        f"an unexpected error ({kind})",
        "Run the command again with `resume=True`; if it fails again, open an issue.",
    )


def is_of_store(error: BaseException | None) -> bool:
    """Tell whether an exception comes from a store, and not from the decoder of what was read."""
    return error is None or isinstance(error, OSError) or type(error).__module__.startswith("obstore")


def _is_refusal(error: BaseException | None) -> bool:
    name = type(error).__name__
    return isinstance(error, PermissionError) or name in ("PermissionDeniedError", "UnauthenticatedError")


def _obstore() -> Any:
    import obstore

    return obstore


@functools.lru_cache(maxsize=16)
def _open(place: str) -> Any:
    """Open a store; its connections are shared by all threads of the process."""

    from obstore.store import LocalStore, from_url

    if not is_address(place):
        return LocalStore(place, automatic_cleanup=True)
    options: Any = {"allow_http": place.startswith("http://") or _allows_http(), "timeout": timedelta(seconds=60)}
    # the time is the limit: waits are drawn below growing bounds, so that ten of them may take two seconds
    retries: Any = {"max_retries": 10_000, "retry_timeout": timedelta(seconds=_RETRY_S), "backoff": _BACKOFF}
    return from_url(place, client_options=options, retry_config=retries)


def _allows_http() -> bool:
    """Tell whether the endpoint that the user has set is one without TLS, such as a server in the same rack."""
    return os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
