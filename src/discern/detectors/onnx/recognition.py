"""What a file that should be an ONNX model is instead, by its first bytes."""

from __future__ import annotations

import re

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"\x7fELF", "a native library or program (ELF)"),
    (b"MZ", "a Windows program or library"),
    (b"\xcf\xfa\xed\xfe", "a native library or program (Mach-O)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF model"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"#!", "a script"),
    (b"version https://git-lfs", "a Git LFS pointer: the model itself was not fetched"),
)
_PICKLE_TEXT = re.compile(rb"(?:\(d|\(l|\(i|ccopy_reg|c[a-zA-Z_][\w.]*\n\w+\n|cos\n)")
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]{16,}")
_HEAD = 65_536


def recognise(content: bytes) -> str | None:  # noqa: PLR0911 - one return for each kind
    """Return what `content` is when it is plainly no ONNX model ("a pickle, ..."), or None."""
    head = content[:_HEAD]
    if not head:
        return "an empty file"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _archive(head + content[-_HEAD:])
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6):
        return "a pickle, which can run code when it is opened"
    if _PICKLE_TEXT.match(head) and content.rstrip().endswith(b"."):
        return "a pickle, which can run code when it is opened"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < len(content):
        return "a safetensors file, which holds weights without the model"
    if _TEXT.match(head[:64]):
        return "a text file"
    return None


def _archive(ends: bytes) -> str:
    if b"constants.pkl" in ends:
        return "a TorchScript archive"
    if b"data.pkl" in ends:
        return "a PyTorch archive with a pickle in it, which can run code when it is opened"
    if b".npy" in ends:
        return "a NumPy archive"
    return "a zip archive"
