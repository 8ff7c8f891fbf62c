from __future__ import annotations

from discern.core import errors
from discern.core.errors import DiscernError, InputTooLarge


def all_errors() -> list[type[DiscernError]]:
    found, waiting = [], [DiscernError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting.extend(kind.__subclasses__())
    return [kind for kind in found if kind.__module__ == errors.__name__]


def test_an_error_says_what_is_wrong_and_how_to_mend_it() -> None:
    error = InputTooLarge("The image has 9 bytes.", mend="Send fewer.", limit="image_bytes", allowed=8)
    assert str(error) == "The image has 9 bytes. Send fewer."
    assert error.facts == {"limit": "image_bytes", "allowed": 8}


def test_every_error_that_is_raised_has_a_code_of_its_own() -> None:
    leaves = [kind for kind in all_errors() if kind is not DiscernError and "code" in vars(kind)]
    codes = [kind.code for kind in leaves]
    assert len(set(codes)) == len(codes)


def test_every_error_says_who_must_act() -> None:
    assert all(
        issubclass(kind, errors.CallerError | errors.OperatorError | errors.InternalError)
        for kind in all_errors()
        if kind is not DiscernError
    )
