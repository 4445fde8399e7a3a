"""Start of a training of several processes: the first one does all that there is to do, the others follow it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from typing import Any, ParamSpec, TypeVar, cast

from unetpp.errors import Interrupted, UsageError
from unetpp.rank_place import RankPlace, find_place
from unetpp.results import PARTLY, UNUSABLE, Result
from unetpp.words import list_some

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result", bound=Result)


def with_ranks(verb: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let a verb that trains run in each of several processes, as torchrun and srun start them.

    The first one runs the verb. The others train their shares of its batches, and return a `Followed`.
    """

    @functools.wraps(verb)
    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        place, given, run = find_place(), dict(options), cast(Callable[..., _Result], verb)
        if place.restarts > 0:
            given["resume"] = True
        if place.size == 1:
            return run(*arguments, **given)
        return _run_together(place, run, arguments, given)

    return call


def _run_together(
    place: RankPlace, verb: Callable[..., _Result], arguments: tuple[Any, ...], options: dict[str, Any]
) -> _Result:
    import torch

    from unetpp.runtime.device import choose_rank_device
    from unetpp.runtime.ranks import join
    from unetpp.verbs.followers import END, follow

    device = choose_rank_device(options.get("device", "auto"), place)
    ranks = join(place, device)
    digests = ranks.gather(torch.tensor([digest_arguments(arguments, options)]), [1] * place.size)
    if not place.is_first:
        return cast(_Result, follow(ranks, device))
    code, reason = UNUSABLE, ""
    try:
        _require_one_training(options, [int(digest) for digest in digests])
        options |= {"device": str(device)}
        result = verb(*arguments, **options)
        code = result.exit_code
        return result
    except BaseException as error:
        code = PARTLY if isinstance(error, (KeyboardInterrupt, Interrupted)) else UNUSABLE
        reason = str(error) or type(error).__name__
        raise
    finally:
        with suppress(RuntimeError):  # the store of the launcher may be gone with it
            ranks.tell({END: code})
        if reason:
            ranks.fail(reason)
        ranks.leave()


def digest_arguments(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    """Digest the arguments of a rank in 56 bits, but for those that each has for itself: functions and `device`."""

    def name(value: Any) -> str:
        return str(value) if isinstance(value, PathLike) else type(value).__name__

    own = {key: value for key, value in options.items() if key not in ("device", "progress")}
    text = json.dumps([arguments, own], default=name, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _require_one_training(options: Mapping[str, Any], digests: Sequence[int]) -> None:
    """Refuse ranks that were not started to do one training together.

    Raises:
        UsageError: a share of the cases, a cluster, or other arguments in another rank.
    """
    size, expected = len(digests), "processes that train one run together"
    for name in ("part", "cluster"):
        if options.get(name) is not None:
            got = f"{options[name]} in {size} processes that torchrun or srun started together"
            action = "Start it as one process: a part as a job of an array, without `srun` or with `srun -n 1`."
            raise UsageError(name, got, f"one process with `{name}`, or {expected}", action)
    if others := [rank for rank, digest in enumerate(digests) if digest != digests[0]]:
        ranks = f"rank{'s' * (len(others) > 1)} {list_some(map(str, others), 8)}"
        action = 'Give all of them the same; train each fold in a job of its own, or all with `fold="all"`.'
        raise UsageError("arguments", f"others in {ranks} than in rank 0", expected, action)
