"""Whose signature is believed: the trusted public keys, and the check of a bundle's signature against them.

The format is that of OpenSSF model-signing 1.x with an elliptic curve key: a Sigstore bundle (version 0.3, JSON) round
a DSSE envelope round an in-toto statement that lists the SHA-256 of every file. `signing` writes it. Both work on
`cryptography` alone: the `model-signing` library takes a second to import and two dozen packages to install, nearly all
of it for keyless signing, which bundles do not use. Tests prove that the library reads what is written here, and the
reverse.

- The signature must list exactly the files of the bundle, with exactly their digests: none more, none less.
- Only signatures over the specified encoding count; the library's tolerance for its own early formats is not repeated.
- Keys are read at each check, so a key that is added or taken away counts from the next bundle on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from discern.core.errors import OperatorError
from discern.detectors.manifest import SIGNATURE_NAME
from discern.detectors.refusal import printable, untrusted

SIGNATURE_BYTES = 1_000_000
_KEY_BYTES = 64_000
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_MEND = "Get the bundle from its maker again, or sign it with a trusted key: `discern detector sign`."


class _DsseSignature(msgspec.Struct, frozen=True):
    sig: bytes


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: bytes
    payload_type: str
    signatures: tuple[_DsseSignature, ...]


class _SignatureFile(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    dsse_envelope: _Envelope


class _Serialization(msgspec.Struct, frozen=True):
    method: str


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct, frozen=True):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    statement_type: str = msgspec.field(name="_type")
    predicate_type: str
    predicate: _Predicate


@dataclass(frozen=True)
class TrustedKey:
    """A public key whose signatures are believed. `fingerprint`: SHA-256 of its DER SubjectPublicKeyInfo, in hex."""

    path: Path
    fingerprint: str
    key: ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class TrustStore:
    """The public keys of `paths`: PEM files, or folders of `*.pub` files. A path that is not there adds none."""

    paths: tuple[Path, ...]

    def keys(self) -> tuple[TrustedKey, ...]:
        """Return the trusted keys, each once; a file that is no such key adds none."""
        return self._read()[0]

    def faults(self) -> tuple[str, ...]:
        """Return what is wrong with the files that add no key, a sentence each."""
        return self._read()[1]

    def _read(self) -> tuple[tuple[TrustedKey, ...], tuple[str, ...]]:
        found: dict[str, TrustedKey] = {}
        faults: list[str] = []
        for path in self.paths:
            files: Sequence[Path] = sorted(path.glob("*.pub")) if path.is_dir() else [path] if path.exists() else []
            for file in files:
                try:
                    key = load_public_key(file)
                except OperatorError as error:
                    faults.append(str(error))
                else:
                    found.setdefault(key.fingerprint, key)
        return tuple(found.values()), tuple(faults)


def load_public_key(path: Path) -> TrustedKey:
    """Return the elliptic curve public key in the PEM file `path`. Raises OperatorError when there is none."""
    content = b""
    try:
        with path.open("rb") as file:
            content = file.read(_KEY_BYTES)
        key = checked_curve(serialization.load_pem_public_key(content), path)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        private = b"PRIVATE KEY" in content
        reason = "it holds a private key" if private else f"it cannot be read as a PEM public key ({printable(error)})"
        raise OperatorError(
            f"{path}: {reason}.", mend="Put the public half (.pub) there, or remove the file.", file=str(path)
        ) from None
    return TrustedKey(path=path, fingerprint=fingerprint(key), key=key)


def checked_curve(key: object, path: Path) -> ec.EllipticCurvePublicKey:
    """Return `key` when it is on a curve that model-signing takes. Raises OperatorError otherwise."""
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in HASHES:
        return key
    raise OperatorError(
        f"{path}: it is not an elliptic curve key on P-256, P-384 or P-521.",
        mend="Use an elliptic curve key, P-256 for choice.",
        file=str(path),
    )


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of the key's DER SubjectPublicKeyInfo, in hex."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def signed_bytes(payload: bytes) -> bytes:
    """Return what is signed for a payload: the pre-authentication encoding of the DSSE protocol, version 1."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def verify_signature(signature: bytes | None, digests: Mapping[str, str], trust: TrustStore) -> str:
    """Return the fingerprint of the trusted key that signed exactly `digests`.

    `digests` is file -> SHA-256 in hex, the manifest included. `signature` is the content of the signature file, None
    when there is none. Raises BundleUntrusted.
    """
    if signature is None:
        raise untrusted(SIGNATURE_NAME, "there is none, so the bundle is not signed", _MEND)
    envelope = _parse_envelope(signature)
    signer = _signer(envelope, trust)
    _check_statement(envelope.payload, digests)
    return signer


def _parse_envelope(signature: bytes) -> _Envelope:
    try:
        parsed = msgspec.json.decode(signature, type=_SignatureFile)
    except (msgspec.DecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise untrusted(SIGNATURE_NAME, f"it is not a signature file: {printable(error)}", _MEND) from None
    if parsed.media_type != MEDIA_TYPE:
        reason = f"its media type is {printable(parsed.media_type, 80)!r}, not {MEDIA_TYPE!r}"
        raise untrusted(SIGNATURE_NAME, reason, _MEND)
    if parsed.dsse_envelope.payload_type != PAYLOAD_TYPE:
        reason = f"its payload type is {printable(parsed.dsse_envelope.payload_type, 80)!r}, not {PAYLOAD_TYPE!r}"
        raise untrusted(SIGNATURE_NAME, reason, _MEND)
    if len(parsed.dsse_envelope.signatures) != 1:
        raise untrusted(SIGNATURE_NAME, "it must hold exactly one signature", _MEND)
    return parsed.dsse_envelope


def _signer(envelope: _Envelope, trust: TrustStore) -> str:
    signed = signed_bytes(envelope.payload)
    keys = trust.keys()
    for trusted in keys:
        try:
            trusted.key.verify(envelope.signatures[0].sig, signed, ec.ECDSA(HASHES[trusted.key.curve.name]()))
        except InvalidSignature:
            continue
        return trusted.fingerprint
    known = f"none of the {len(keys)} trusted keys made it" if keys else "no key is trusted here"
    mend = "If you trust who signed it, add their public key to the trusted keys; otherwise do not run this bundle."
    raise untrusted(SIGNATURE_NAME, f"its signature does not hold: {known}", mend)


def _check_statement(payload: bytes, digests: Mapping[str, str]) -> None:
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.DecodeError, RecursionError) as error:
        raise untrusted(SIGNATURE_NAME, f"what it signs is not a model-signing statement: {printable(error)}") from None
    if statement.statement_type != STATEMENT_TYPE or statement.predicate_type != PREDICATE_TYPE:
        raise untrusted(SIGNATURE_NAME, "what it signs is not a model-signing 1.0 statement", _MEND)
    resources = statement.predicate.resources
    signed = {resource.name: resource.digest for resource in resources}
    if statement.predicate.serialization.method != "files" or any(one.algorithm != "sha256" for one in resources):
        raise untrusted(SIGNATURE_NAME, "it must list whole files by SHA-256", _MEND)
    if len(signed) != len(resources):
        raise untrusted(SIGNATURE_NAME, "it lists a file twice", _MEND)
    for name in sorted(signed.keys() | digests.keys()):
        if name not in signed:
            raise untrusted(name, "it was not there when the bundle was signed", _MEND)
        if name not in digests:
            raise untrusted(name, "it was signed with the bundle and is missing", _MEND)
        if signed[name] != digests[name]:
            raise untrusted(name, "it has changed since the bundle was signed (SHA-256 differs)", _MEND)
