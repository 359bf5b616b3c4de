"""Something done in a process of its own, of which nothing stays in this one."""

import os
import pickle
from collections.abc import Callable
from typing import TypeVar, cast

from ..errors import HelperEnded, SnapmirrorError

_Value = TypeVar("_Value")


def apart(what: Callable[[], _Value], task: str) -> _Value:
    """What a function returns in a child of this process, or the SnapmirrorError that it raises.

    The library of object stores starts threads, which a process that forks workers must not have: in a worker they would be
    missing. task: what is done, as `HelperEnded` has it
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            try:
                done: object = what()
            except SnapmirrorError as error:
                done = error
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(done, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status or not data:
        raise HelperEnded(task, status)
    found = pickle.loads(data)
    if isinstance(found, SnapmirrorError):
        raise found
    return cast(_Value, found)
