"""Signing bundles: a key pair, and the signature file that `trust` checks.

- A private key is written readable by its owner only, and no key file is ever overwritten.
- Only a bundle that opens without fault is signed, and the signature is checked before it takes its place.
- The signature file is replaced in one step: there is the old one or the new one, never half of one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from discern.core.errors import OperatorError
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.files import replace_file
from discern.detectors.manifest import MANIFEST_NAME, SIGNATURE_NAME
from discern.detectors.refusal import printable
from discern.detectors.trust import TrustStore, checked_curve, fingerprint, verify_signature


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
    public = _public_half(private_key)
    bundle = open_bundle(root, None)
    # Imported here: it takes about a second, and only signing needs it.
    from model_signing import hashing, signing  # noqa: PLC0415

    digests = {**bundle.manifest.files, MANIFEST_NAME: bundle.digest}
    with tempfile.TemporaryDirectory(prefix="discern-sign-") as folder:
        written, public_file = Path(folder) / SIGNATURE_NAME, Path(folder) / "key.pub"
        ignoring = hashing.Config().set_ignored_paths(  # type: ignore[no-untyped-call] # the library leaves it untyped
            paths=[SIGNATURE_NAME], ignore_git_paths=False
        )
        config = signing.Config()  # type: ignore[no-untyped-call] # as above
        signer = config.use_elliptic_key_signer(private_key=private_key).set_hashing_config(ignoring)
        signer.sign(bundle.root, written)
        signature = written.read_bytes()
        public_file.write_bytes(public)
        signed_by = verify_signature(signature, digests, TrustStore((public_file,)))
    replace_file(bundle.root / SIGNATURE_NAME, signature)
    return Bundle(manifest=bundle.manifest, root=bundle.root, digest=bundle.digest, signer=signed_by)


def _public_half(private_key: Path) -> bytes:
    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key has a password
        raise OperatorError(
            f"{private_key}: it cannot be read as a PEM private key without a password ({printable(error)}).",
            mend="Give the PEM file of an elliptic curve private key.",
            file=str(private_key),
        ) from None
    public = checked_curve(key.public_key(), private_key)
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_once(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise OperatorError(f"{path}: it cannot be written: {error.strerror}.", file=str(path)) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _taken(path: Path) -> OperatorError:
    return OperatorError(f"{path}: it is there already and keys are never overwritten.", mend="Name another file.")
