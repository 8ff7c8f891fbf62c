"""Keys and signatures: who is believed, and that nothing else is."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from model_signing import hashing, signing, verifying

from discern.core.errors import BundleRefused, BundleUntrusted, OperatorError
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.signing import generate_key, sign_bundle
from discern.detectors.trust import TrustStore, load_public_key
from tests.detectors import models


def refusal(root: Path, trust: TrustStore) -> str:
    with pytest.raises(BundleUntrusted) as caught:
        open_bundle(root, trust)
    return f"{caught.value.facts['file']}: {caught.value.facts['reason']}"


def rewrite(root: Path, **changes: Any) -> None:
    """Change fields of the DSSE envelope in the signature file."""
    document = json.loads((root / "signature.json").read_text())
    document["dsseEnvelope"] |= changes
    (root / "signature.json").write_text(json.dumps(document))


def sign_statement(root: Path, key: Path, change: dict[str, Any] | None = None, **predicate: Any) -> None:
    """Replace what is signed by a changed statement, validly signed by `key`."""
    document = json.loads((root / "signature.json").read_text())
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    statement |= change or {}
    statement["predicate"] |= predicate
    payload = json.dumps(statement).encode()
    kind = b"application/vnd.in-toto+json"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    signature = private.sign(signed, ec.ECDSA(hashes.SHA256()))
    encoded = [{"sig": base64.b64encode(signature).decode(), "keyid": ""}]
    rewrite(root, payload=base64.b64encode(payload).decode(), signatures=encoded)


def resources(root: Path) -> list[dict[str, str]]:
    document = json.loads((root / "signature.json").read_text())
    listed: list[dict[str, str]] = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))["predicate"][
        "resources"
    ]
    return listed


# Keys.


def test_a_fresh_key_is_for_its_owner_only(tmp_path: Path) -> None:
    fingerprint = generate_key(tmp_path / "a.key", tmp_path / "a.pub")
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert load_public_key(tmp_path / "a.pub").fingerprint == fingerprint
    assert b"PRIVATE" not in (tmp_path / "a.pub").read_bytes()
    assert generate_key(tmp_path / "b.key", tmp_path / "b.pub") != fingerprint


def test_the_fingerprint_is_of_the_key_and_not_of_the_file(tmp_path: Path) -> None:
    fingerprint = generate_key(tmp_path / "a.key", tmp_path / "a.pub")
    (tmp_path / "b.pub").write_text("\n# ours\n" + (tmp_path / "a.pub").read_text())
    assert load_public_key(tmp_path / "b.pub").fingerprint == fingerprint
    assert len(TrustStore((tmp_path,)).keys()) == 1


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    generate_key(tmp_path / "a.key", tmp_path / "a.pub")
    before = (tmp_path / "a.key").read_bytes(), (tmp_path / "a.pub").read_bytes()
    for private, public in (("a.key", "b.pub"), ("b.key", "a.pub")):
        with pytest.raises(OperatorError, match="never overwritten"):
            generate_key(tmp_path / private, tmp_path / public)
    assert not (tmp_path / "b.key").exists()
    assert before == ((tmp_path / "a.key").read_bytes(), (tmp_path / "a.pub").read_bytes())
    with pytest.raises(OperatorError, match="cannot be written"):
        generate_key(tmp_path / "nowhere" / "c.key", tmp_path / "c.pub")


def test_a_trust_store_takes_files_and_folders_and_reads_them_anew(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    store = TrustStore((tmp_path / "keys", tmp_path / "c.pub", tmp_path / "nowhere"))
    assert store.keys() == ()
    fingerprints = {
        generate_key(tmp_path / f"{name}.key", tmp_path / place)
        for name, place in (("a", "keys/a.pub"), ("b", "keys/b.pub"), ("c", "c.pub"))
    }
    (tmp_path / "keys" / "notes.txt").write_text("not a key")
    assert {one.fingerprint for one in store.keys()} == fingerprints  # noqa: SIM118 - a method, not a mapping's


def test_what_is_no_trusted_key_is_named(tmp_path: Path) -> None:
    generate_key(tmp_path / "a.key", tmp_path / "a.pub")
    public_rsa = rsa.generate_private_key(65537, 2048).public_key()
    brainpool = ec.generate_private_key(ec.BrainpoolP256R1()).public_key()
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    for content, reason in (
        (b"", "cannot be read"),
        (b"\xff" * 200_000, "cannot be read"),
        ((tmp_path / "a.key").read_bytes(), "holds a private key"),
        (public_rsa.public_bytes(*pem), "not an elliptic curve key"),
        (brainpool.public_bytes(*pem), "not an elliptic curve key"),
    ):
        (tmp_path / "keys.pub").write_bytes(content)
        store = TrustStore((tmp_path / "keys.pub", tmp_path / "a.pub"))
        (fault,) = store.faults()
        assert reason in fault
        assert "keys.pub" in fault
        trusted = store.keys()
        assert [key.path.name for key in trusted] == ["a.pub"]


# Signing.


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_the_larger_curves_sign_too(record_bundle: Bundle, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    private = ec.generate_private_key(curve)
    encoding = serialization.Encoding.PEM
    (tmp_path / "big.key").write_bytes(
        private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "big.pub").write_bytes(
        private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = sign_bundle(record_bundle.root, tmp_path / "big.key")
    assert open_bundle(record_bundle.root, TrustStore((tmp_path / "big.pub",))) == signed


def test_signing_again_replaces_the_signature_and_leaves_nothing_behind(
    record_bundle: Bundle, trust: TrustStore, tmp_path: Path
) -> None:
    fingerprint = generate_key(tmp_path / "second.key", tmp_path / "second.pub")
    before = sorted(path.name for path in record_bundle.root.iterdir())
    assert sign_bundle(record_bundle.root, tmp_path / "second.key").signer == fingerprint
    assert sorted(path.name for path in record_bundle.root.iterdir()) == before
    assert open_bundle(record_bundle.root, TrustStore((tmp_path / "second.pub",))).signer == fingerprint
    assert "none of the 1 trusted keys made it" in refusal(record_bundle.root, trust)


def test_only_a_sound_bundle_is_signed(record_bundle: Bundle, key: Path) -> None:
    before = (record_bundle.root / "signature.json").read_bytes()
    (record_bundle.root / "only.onnx").write_bytes(models.pickled())
    with pytest.raises(BundleRefused, match=r"only\.onnx"):
        sign_bundle(record_bundle.root, key)
    assert (record_bundle.root / "signature.json").read_bytes() == before


def test_a_key_that_cannot_sign_is_named(record_bundle: Bundle, key: Path, tmp_path: Path) -> None:
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "empty.key").write_bytes(b"")
    for name in ("locked.key", "empty.key", "missing.key"):
        with pytest.raises(OperatorError, match="cannot be read as a PEM private key") as caught:
            sign_bundle(record_bundle.root, tmp_path / name)
        assert name in str(caught.value)


def test_the_library_believes_what_we_sign(record_bundle: Bundle, key: Path) -> None:
    config = verifying.Config()  # type: ignore[no-untyped-call]
    config.use_elliptic_key_verifier(public_key=key.with_suffix(".pub"))
    config.verify(record_bundle.root, record_bundle.root / "signature.json")
    (record_bundle.root / "CARD.md").write_text("changed")
    with pytest.raises(ValueError, match="mismatch"):
        config.verify(record_bundle.root, record_bundle.root / "signature.json")


@pytest.mark.parametrize("default_hashing", [True, False])
def test_we_believe_what_the_library_signs(
    record_bundle: Bundle, key: Path, trust: TrustStore, default_hashing: bool
) -> None:
    signature = record_bundle.root / "signature.json"
    signature.unlink()
    config = signing.Config().use_elliptic_key_signer(private_key=key)  # type: ignore[no-untyped-call]
    if not default_hashing:
        ours = hashing.Config().set_ignored_paths(  # type: ignore[no-untyped-call]
            paths=["signature.json"], ignore_git_paths=False
        )
        config.set_hashing_config(ours)
    config.sign(record_bundle.root, signature)
    assert open_bundle(record_bundle.root, trust) == record_bundle


# What is not believed.


def test_a_bundle_signed_by_another_key_is_refused(record_bundle: Bundle, tmp_path: Path) -> None:
    generate_key(tmp_path / "other.key", tmp_path / "other.pub")
    other = TrustStore((tmp_path / "other.pub",))
    assert refusal(record_bundle.root, other) == (
        "signature.json: its signature does not hold: none of the 1 trusted keys made it"
    )
    assert "no key is trusted here" in refusal(record_bundle.root, TrustStore(()))


def test_a_removed_signature_is_refused(record_bundle: Bundle, trust: TrustStore) -> None:
    (record_bundle.root / "signature.json").unlink()
    assert "is not signed" in refusal(record_bundle.root, trust)


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"mediaType": 1}']
)
def test_a_signature_file_that_is_none_is_refused(record_bundle: Bundle, trust: TrustStore, content: bytes) -> None:
    (record_bundle.root / "signature.json").write_bytes(content)
    assert "it is not a signature file" in refusal(record_bundle.root, trust)


def test_a_truncated_signature_is_refused_wherever_it_is_cut(record_bundle: Bundle, trust: TrustStore) -> None:
    content = (record_bundle.root / "signature.json").read_bytes()
    for length in range(0, len(content), 97):
        (record_bundle.root / "signature.json").write_bytes(content[:length])
        assert "signature.json" in refusal(record_bundle.root, trust)


def test_an_enormous_signature_file_is_refused_unread(record_bundle: Bundle, trust: TrustStore) -> None:
    with (record_bundle.root / "signature.json").open("wb") as file:
        file.truncate(1_000_001)
    with pytest.raises(BundleRefused, match="at most 1000000 are read"):
        open_bundle(record_bundle.root, trust)


def test_another_envelope_is_refused(record_bundle: Bundle, trust: TrustStore) -> None:
    path = record_bundle.root / "signature.json"
    content = path.read_bytes()
    document = json.loads(content)
    path.write_text(json.dumps(document | {"mediaType": "text/plain"}))
    assert "its media type is 'text/plain'" in refusal(record_bundle.root, trust)
    envelope = document["dsseEnvelope"]
    for change, reason in (
        ({"payloadType": "application/json"}, "its payload type is"),
        ({"signatures": []}, "exactly one signature"),
        ({"signatures": envelope["signatures"] * 2}, "exactly one signature"),
        ({"signatures": [{"sig": ""}]}, "none of the 1 trusted keys made it"),
        ({"signatures": [{"sig": "AAAA"}]}, "none of the 1 trusted keys made it"),
        ({"signatures": [{"sig": "***"}]}, "it is not a signature file"),
        ({"payload": base64.b64encode(b"{}").decode()}, "none of the 1 trusted keys made it"),
    ):
        path.write_bytes(content)
        rewrite(record_bundle.root, **change)
        assert reason in refusal(record_bundle.root, trust)


def test_a_signature_of_another_bundle_is_refused(
    record_bundle: Bundle, image_bundle: Bundle, trust: TrustStore
) -> None:
    shutil.copy(image_bundle.root / "signature.json", record_bundle.root / "signature.json")
    assert "has changed since the bundle was signed" in refusal(record_bundle.root, trust)


def test_a_manifest_changed_with_its_files_is_refused(record_bundle: Bundle, trust: TrustStore) -> None:
    """All digests are made to fit again, so that only the signature can tell."""
    looser = models.record_manifest(decision={"review_from": 0.9, "flag_from": 0.95})
    models.write_bundle(record_bundle.root, looser, models.RECORD_FILES)
    assert open_bundle(record_bundle.root, None).manifest.decision.flag_from == 0.95
    assert refusal(record_bundle.root, trust) == (
        "detector.yaml: it has changed since the bundle was signed (SHA-256 differs)"
    )


def test_files_added_or_taken_away_after_signing_are_refused(
    record_bundle: Bundle, trust: TrustStore, key: Path
) -> None:
    models.write_bundle(record_bundle.root, models.record_manifest(), {**models.RECORD_FILES, "more.json": b"{}"})
    assert refusal(record_bundle.root, trust).startswith("detector.yaml: it has changed")
    sign_bundle(record_bundle.root, key)
    listed = resources(record_bundle.root)
    sign_statement(record_bundle.root, key, resources=[one for one in listed if one["name"] != "more.json"])
    assert refusal(record_bundle.root, trust) == "more.json: it was not there when the bundle was signed"
    gone = {"name": "gone.json", "algorithm": "sha256", "digest": "0" * 64}
    sign_statement(record_bundle.root, key, resources=[*listed, gone])
    assert refusal(record_bundle.root, trust) == "gone.json: it was signed with the bundle and is missing"
    sign_statement(record_bundle.root, key, resources=listed)
    assert open_bundle(record_bundle.root, trust).signer == record_bundle.signer


@pytest.mark.parametrize(
    ("change", "predicate", "reason"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, {}, "not a model-signing 1.0 statement"),
        ({"predicateType": "https://model_signing/Digests/v0.1"}, {}, "not a model-signing 1.0 statement"),
        ({}, {"serialization": {"method": "shards", "hash_type": "sha256"}}, "whole files by SHA-256"),
        ({}, {"serialization": None}, "is not a model-signing statement"),
        ({}, {"resources": [{"name": "CARD.md"}]}, "is not a model-signing statement"),
        ({}, {"resources": []}, "it was not there when the bundle was signed"),
    ],
)
def test_a_trusted_key_over_another_statement_is_refused(
    record_bundle: Bundle, trust: TrustStore, key: Path, change: dict[str, Any], predicate: dict[str, Any], reason: str
) -> None:
    sign_statement(record_bundle.root, key, change, **predicate)
    assert reason in refusal(record_bundle.root, trust)


def test_other_digests_and_files_listed_twice_are_refused(record_bundle: Bundle, trust: TrustStore, key: Path) -> None:
    listed = resources(record_bundle.root)
    sign_statement(record_bundle.root, key, resources=[*listed, listed[0]])
    assert "it lists a file twice" in refusal(record_bundle.root, trust)
    sign_statement(record_bundle.root, key, resources=[{**one, "algorithm": "blake3"} for one in listed])
    assert "whole files by SHA-256" in refusal(record_bundle.root, trust)


@pytest.mark.system
def test_checking_a_signature_does_not_import_the_signing_library(record_bundle: Bundle, key: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from discern.detectors.bundle import open_bundle; "
        "from discern.detectors.trust import TrustStore; "
        f"open_bundle(Path({str(record_bundle.root)!r}), TrustStore((Path({str(key.parent)!r}),))); "
        "slow = {'model_signing', 'sigstore', 'onnxruntime', 'google.protobuf', 'onnx', 'numpy'} & sys.modules.keys(); "
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    sources = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": sources}, check=True)
