"""Start of a training of several processes: the first one does all that there is to do, the others follow it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, cast

from unetpp.errors import Interrupted
from unetpp.rank_place import RankPlace, find_place
from unetpp.results import PARTLY, UNUSABLE, Result

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result", bound=Result)


def with_ranks(verb: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let a verb that trains run in each of several processes, as torchrun and srun start them.

    The first one runs the verb. The others train their shares of its batches, and return a `Followed`.
    """

    @functools.wraps(verb)
    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        place = find_place()
        if place.size == 1:
            return verb(*arguments, **options)
        return _run_together(place, cast(Callable[..., _Result], verb), arguments, dict(options))

    return call


def _run_together(
    place: RankPlace, verb: Callable[..., _Result], arguments: tuple[Any, ...], options: dict[str, Any]
) -> _Result:
    from unetpp.runtime.device import choose_rank_device
    from unetpp.runtime.ranks import join
    from unetpp.verbs.followers import END, follow

    device = choose_rank_device(options.get("device", "auto"), place)
    ranks = join(place, device)
    if not place.is_first:
        return cast(_Result, follow(ranks, device))
    options |= {"device": str(device), "resume": options.get("resume", False) or place.restarts > 0}
    code, reason = UNUSABLE, ""
    try:
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
