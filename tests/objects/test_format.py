"""A sealed object opens as what was sealed, or not at all."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from discern.core.errors import ObjectRefused
from discern.objects.rules import HEAD_BYTES, TAG_BYTES, Opener, Sealer, unwrap, wrap

KEY, CONTEXT = bytes(range(32)), b"the place"
BITS = 4
CHUNK = 1 << BITS


def sealed(pieces: list[bytes], key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    sealer = Sealer(key, context, BITS)
    return sealer.head + b"".join(map(sealer.add, pieces)) + sealer.end()


def opened(content: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    """Open all of it, the last chunk first, as the reader does."""
    opener = Opener(key, context, content[:HEAD_BYTES], len(content))

    def chunk(position: int) -> bytes:
        start, length = opener.span(position)
        return opener.opened(position, content[start : start + length])

    chunk(opener.chunks - 1)
    found = b"".join(chunk(position) for position in range(opener.chunks))
    assert len(found) == opener.size
    return found


@given(st.lists(st.binary(max_size=5 * CHUNK), max_size=6))
def test_what_was_sealed_opens_however_it_was_handed_in(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert opened(sealed(pieces)) == content
    assert sealed(pieces) == sealed([content])


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 10 * CHUNK + 3])
def test_every_bit_that_is_changed_shows(size: int) -> None:
    good = sealed([bytes(size)])
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        with pytest.raises(ObjectRefused):
            opened(bytes(bad))


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK, 4 * CHUNK + 5])
def test_a_cut_anywhere_and_anything_added_show(size: int) -> None:
    good = sealed([bytes(size)])
    for end in range(len(good)):
        with pytest.raises(ObjectRefused):
            opened(good[:end])
    for more in (b"\0", bytes(TAG_BYTES), bytes(CHUNK + TAG_BYTES), good[HEAD_BYTES:] or b"\0"):
        with pytest.raises(ObjectRefused):
            opened(good + more)


def test_chunks_in_another_order_or_of_another_object_show() -> None:
    step = CHUNK + TAG_BYTES
    good = sealed([os.urandom(4 * CHUNK)])
    head, chunks = good[:HEAD_BYTES], [good[at : at + step] for at in range(HEAD_BYTES, len(good), step)]
    for order in ([1, 0, 2, 3], [0, 1, 1, 3], [0, 1, 3], [3], [0, 1, 2]):
        with pytest.raises(ObjectRefused):
            opened(head + b"".join(chunks[number] for number in order))
    other = sealed([os.urandom(4 * CHUNK)], key=os.urandom(32))
    with pytest.raises(ObjectRefused):
        opened(good[:-step] + other[-step:])
    with pytest.raises(ObjectRefused):
        opened(good, context=b"another place")
    with pytest.raises(ObjectRefused):
        opened(good, key=bytes(32))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    with pytest.raises(ObjectRefused):
        opened(content)
    with pytest.raises(ObjectRefused):
        opened(b"DSCOBJ\x01\x04" + content)


def test_the_layout_is_the_documented_one() -> None:
    content = b"a" * CHUNK + b"b"
    head = b"DSCOBJ\x01\x04"
    cipher = AESGCM(KEY)
    first = cipher.encrypt(bytes(11) + b"\0", b"a" * CHUNK, head + CONTEXT)
    last = cipher.encrypt(bytes(10) + b"\1\1", b"b", head + CONTEXT)
    assert sealed([content]) == head + first + last


@given(st.binary(min_size=32, max_size=32), st.binary(), st.integers(min_value=0), st.binary(max_size=80))
def test_a_wrapped_key_unwraps_in_its_own_place_alone(key: bytes, context: bytes, at: int, junk: bytes) -> None:
    blob = wrap(key, KEY, context)
    assert unwrap(blob, KEY, context) == key
    bad = bytearray(blob)
    bad[at % len(bad)] ^= 1
    for wrong in (
        (bytes(bad), KEY, context),
        (blob, bytes(32), context),
        (blob, KEY, context + b"."),
        (junk, KEY, b""),
    ):
        with pytest.raises(ObjectRefused):
            unwrap(*wrong)
