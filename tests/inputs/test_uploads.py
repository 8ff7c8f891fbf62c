from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.core.errors import CallerError, InputTooLarge, MalformedRequest, UnreadableInput
from discern.inputs.uploads import Member, UploadLimits, multipart_members, zip_members

LIMITS = UploadLimits(10, "batch_images", 1_000_000, "batch_bytes", 50_000, "image_bytes")
FORM = "multipart/form-data; boundary=frontier"


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def form(*parts: tuple[str | None, bytes], end: bytes = b"--frontier--\r\n") -> bytes:
    body = b""
    for name, content in parts:
        filename = b"" if name is None else b'; filename="' + name.encode() + b'"'
        body += (
            b'--frontier\r\nContent-Disposition: form-data; name="file"' + filename + b"\r\n\r\n" + content + b"\r\n"
        )
    return body + end


def read(member: Member) -> bytes | str:
    try:
        return member.read()
    except CallerError as error:
        return error.code


def test_files_come_out_of_an_archive_as_they_went_in() -> None:
    files = [("a.jpg", b"one" * 1000), ("folder/b.jpg", b""), ("ü.png", bytes(range(256)))]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        members = zip_members(packed(*files, method=method), LIMITS)
        assert [(member.name, member.read()) for member in members] == files
        assert [member.size for member in members] == [3000, 0, 256]


def test_an_archive_written_without_seeking_can_be_read() -> None:
    class Pipe(io.RawIOBase):
        content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 5000)
    assert zip_members(pipe.content, LIMITS)[0].read() == b"x" * 5000


def test_folders_and_the_litter_of_macos_are_no_items() -> None:
    content = packed(("folder/", b""), ("folder/a", b"1"), ("__MACOSX/folder/._a", b"2"))
    assert [member.name for member in zip_members(content, LIMITS)] == ["folder/a"]


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "entry", ["/etc/passwd", "../a", "a/../../b", "C:/a", "\\a", "..\\a", link("shortcut")], ids=str
)
def test_what_points_elsewhere_is_an_error_of_its_own(entry: str | zipfile.ZipInfo) -> None:
    good, bad = zip_members(packed(("good", b"x"), (entry, b"target")), LIMITS)
    assert (read(good), type(read(bad))) == (b"x", str)


def test_an_entry_without_a_name_breaks_nothing() -> None:
    content = packed(("a", b"x")).replace(b"a", b"\0")  # the library cuts a name at NUL
    (member,) = zip_members(content, LIMITS)
    assert member.name == ""
    read(member)


def test_the_second_of_a_name_is_an_error_of_its_own() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        content = packed(("a", b"1"), ("a", b"2"), ("b", b"3"))
    assert [read(member) for member in zip_members(content, LIMITS)] == [b"1", "malformed_request", b"3"]


def test_an_entry_that_is_encrypted_is_said() -> None:
    content = bytearray(packed(("a", b"x"), ("b", b"y")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    first, second = zip_members(bytes(content), LIMITS)
    with pytest.raises(UnreadableInput, match="encrypted"):
        first.read()
    assert second.read() == b"y"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing_are_refused(method: int) -> None:
    with pytest.raises(UnreadableInput, match="method"):
        zip_members(packed(("a", b"x" * 100), method=method), LIMITS)[0].read()


def test_an_archive_inside_an_archive_is_not_opened() -> None:
    inner = packed(("a", b"x"))
    assert [member.read() for member in zip_members(packed(("inner.zip", inner)), LIMITS)] == [inner]


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (packed(*((str(number), b"x") for number in range(11))), "batch_images"),
        (packed(*((str(number), b"x") for number in range(3000))), "batch_images"),
        (packed(("bomb", b"\0" * 1_000_001)), "batch_bytes"),
        (packed(*((str(number), b"\0" * 200_000) for number in range(6))), "batch_bytes"),
    ],
    ids=["a-few-too-many", "far-too-many", "one-bomb", "together-a-bomb"],
)
def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(content: bytes, limit: str) -> None:
    with pytest.raises(InputTooLarge) as caught:
        zip_members(content, LIMITS)
    assert caught.value.facts["limit"] == limit


def test_one_file_over_the_limit_is_an_error_of_its_own() -> None:
    large, small = zip_members(packed(("large", b"x" * 50_001), ("small", b"x")), LIMITS)
    assert (read(large), read(small)) == ("input_too_large", b"x")


def test_an_entry_that_holds_more_than_it_says_is_not_unpacked_further() -> None:
    content = packed(("liar", b"\0" * 50_000_000))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + offset
        content = content[:at] + struct.pack("<I", 100) + content[at + 4 :]
    (liar,) = zip_members(content, LIMITS)
    assert liar.size == 100
    tracemalloc.start()
    with pytest.raises(UnreadableInput, match="unpacked"):
        liar.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_an_entry_that_holds_less_than_it_says_is_an_error() -> None:
    content = packed(("liar", b"abc"), method=zipfile.ZIP_STORED)
    at = content.index(b"PK\x01\x02") + 24
    (liar,) = zip_members(content[:at] + struct.pack("<I", 5000) + content[at + 4 :], LIMITS)
    assert read(liar) == "unreadable_input"


def test_a_broken_checksum_is_an_error() -> None:
    content = packed(("a", b"abcdef"), method=zipfile.ZIP_STORED).replace(b"abcdef", b"abcxef")
    assert read(zip_members(content, LIMITS)[0]) == "unreadable_input"


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x05\x06" + b"\0" * 18 + b"x" * 100_000, packed(("a", b"x"))[:-5]],
    ids=["empty", "two bytes", "no directory", "cut off"],
)
def test_what_is_no_archive_is_said(content: bytes) -> None:
    with pytest.raises(MalformedRequest, match="zip archive"):
        zip_members(content, LIMITS)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_an_archive_raises_anything_but_our_errors(data: st.DataObject) -> None:
    content = bytearray(packed(("a.jpg", b"some content " * 10), ("ü", b"\0" * 1000)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut]), bytes(content[cut:])):
        try:
            members = zip_members(damaged, LIMITS)
        except CallerError:
            continue
        for member in members:
            assert isinstance(read(member), bytes | str)


def test_files_of_an_upload_come_as_they_were_sent() -> None:
    files = [("a.jpg", b"one\r\n--frontie\r\n" * 100), ("b c.png", b""), ("ü.png", bytes(range(256)))]
    members = multipart_members(form(*files), FORM, LIMITS)
    assert [(member.name, member.size, member.read()) for member in members] == [
        (name, len(content), content) for name, content in files
    ]


@pytest.mark.parametrize(
    ("content", "content_type", "said"),
    [
        (form(("a", b"x")), "multipart/form-data", "boundary"),
        (form(("a", b"x"), end=b""), FORM, "in the middle"),
        (form(("a", b"x"))[:-30], FORM, "in the middle"),
        (form(("a", b"x"), (None, b"y")), FORM, r"Part 1 .* has no file name"),
        (b"nothing of the kind", FORM, "cannot be read"),
        (b"--frontier\r\nbad header\r\n\r\nx\r\n--frontier--", FORM, "cannot be read"),
    ],
)
def test_an_upload_that_cannot_be_read_is_said(content: bytes, content_type: str, said: str) -> None:
    with pytest.raises(MalformedRequest, match=said):
        multipart_members(content, content_type, LIMITS)


def test_an_upload_of_too_many_files_is_refused_and_one_too_large_is_an_error_of_its_own() -> None:
    with pytest.raises(InputTooLarge, match="batch_images"):
        multipart_members(form(*((str(number), b"x") for number in range(11))), FORM, LIMITS)
    large, small = multipart_members(form(("large", b"x" * 50_001), ("small", b"x")), FORM, LIMITS)
    assert (read(large), read(small)) == ("input_too_large", b"x")


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [b"--frontier", b"--", b"\r\n", b"\r", b'Content-Disposition: form-data; filename="a"', b":", b"x"]
        )
    ).map(b"".join),
    st.sampled_from(
        [FORM, "multipart/form-data; boundary=\xff", "multipart/form-data; boundary=" + "x" * 300, 'a;boundary=""']
    ),
)
def test_no_upload_raises_anything_but_our_errors(content: bytes, content_type: str) -> None:
    try:
        members = multipart_members(content, content_type, LIMITS)
    except CallerError:
        return
    assert all(isinstance(read(member), bytes) for member in members)
