"""Signing bundles: a key pair, and the signature file that `trust` checks.

- A private key is written readable by its owner only, and no key file is ever overwritten.
- Only a bundle that opens without fault is signed.
- The signature file is replaced in one step: there is the old one or the new one, never half of one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from discern.core.errors import OperatorError
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.files import replace_file, sync_folder
from discern.detectors.manifest import MANIFEST_NAME, SIGNATURE_NAME
from discern.detectors.refusal import printable
from discern.detectors.trust import (
    HASHES,
    MEDIA_TYPE,
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    checked_curve,
    fingerprint,
    signed_bytes,
)


def generate_key(private_path: Path, public_path: Path) -> str:
    """Write a fresh elliptic curve key on P-256 as two PEM files (0600 and 0644) and return its fingerprint.

    Raises OperatorError when either file is there already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public_path.exists():
        raise _taken(public_path)
    _write_once(private_path, private, 0o600)
    _write_once(public_path, public, 0o644)
    return fingerprint(key.public_key())


def sign_bundle(root: Path, private_key: Path) -> Bundle:
    """Sign every file of the bundle in `root` with the PEM key in `private_key`; a signature that is there is replaced.

    Returns the bundle as it opens for whoever trusts the key. Raises BundleRefused when it does not open without a
    signature, and OperatorError when there is no usable key.
    """
    key = _private_key(private_key)
    bundle = open_bundle(root, None)
    digests = {**bundle.manifest.files, MANIFEST_NAME: bundle.digest}
    signature = _signature(key, bundle.root.resolve().name, digests)
    replace_file(bundle.root / SIGNATURE_NAME, signature)
    return replace(bundle, signer=fingerprint(key.public_key()))


def _signature(key: ec.EllipticCurvePrivateKey, name: str, digests: Mapping[str, str]) -> bytes:
    ordered = sorted(digests.items())
    # The digest of the whole is that of the files' digests one after the other, in the order they are listed in.
    root_digest = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root_digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_NAME],
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": digest} for file, digest in ordered],
        },
    }
    payload = json.dumps(statement, indent=2).encode()
    public = key.public_key()
    signed = key.sign(signed_bytes(payload), ec.ECDSA(HASHES[public.curve.name]()))
    # The hint tells which key to try; it is the digest of the key's PEM file.
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signed).decode()}],
    }
    material = {"publicKey": {"hint": hashlib.sha256(pem).hexdigest()}, "tlogEntries": []}
    document = {"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(document, indent=2).encode() + b"\n"


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key has a password
        raise OperatorError(
            f"{path}: it cannot be read as a PEM private key without a password ({printable(error)}).",
            mend="Give the PEM file of an elliptic curve private key.",
            file=str(path),
        ) from None
    checked_curve(key.public_key(), path)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - its public half is on a curve
    return key


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, and never over another."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.link(temporary, path)
        sync_folder(path.parent)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise OperatorError(f"{path}: it cannot be written: {error.strerror}.", file=str(path)) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _taken(path: Path) -> OperatorError:
    return OperatorError(f"{path}: it is there already and keys are never overwritten.", mend="Name another file.")
