"""The catalogue of detectors.

- A bundle is verified (digests and signature) before it is listed as usable, and its models have run in a child process
  under limits before they run in this one; the outcome is remembered by the digest of the manifest.
- A bundle added to the home folder, by this process or by another, is taken up without a restart.
- A bundle that does not hold is listed with the reason and never run; the others keep working.
- Without a version asked for, the highest usable one answers.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

from discern.core.errors import BundleRefused, OperatorError, UnknownDetector
from discern.core.verdict import InputKind
from discern.detectors.assessment import Detector, load_detector
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.packing import read_archive
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import VettingLimits, vet
from discern.registry.rules import Signature, folder_signature
from discern.registry.types import Listed, Origin, takes, version_order

log = structlog.get_logger(__name__)


class Catalogue:
    """The bundles of an installation, and the detectors loaded from them.

    `home` is the folder that holds `detectors/`, `trust/` and `vetted/`. Thread-safe.
    """

    def __init__(self, *, builtin: Path, home: Path, limits: VettingLimits, inference_threads: int = 1) -> None:
        self._builtin = builtin
        self._added = home / "detectors"
        self._vetted = home / "vetted"
        self._trust_folders = (builtin.parent / "keys", home / "trust")
        self._limits = limits
        self._inference_threads = inference_threads
        self._lock = threading.RLock()
        self._signature: Signature | None = None
        self._listed: dict[str, dict[str, Listed]] = {}
        self._loaded: dict[str, Detector] = {}
        self._loading: dict[str, threading.Lock] = {}

    def all(self) -> list[Listed]:
        """Return every bundle that was found, by name, newest version first."""
        with self._lock:
            self._refresh()
            return [entry for versions in self._listed.values() for entry in versions.values()]

    def find(self, name: str, version: str | None = None) -> Listed:
        """Return a usable bundle. Raises UnknownDetector, or BundleRefused where none holds."""
        with self._lock:
            self._refresh()
            versions = self._listed.get(name)
        if not versions:
            raise UnknownDetector(
                f"There is no detector {name!r}.", mend="`discern detector list` shows the detectors.", detector=name
            )
        if version is None:
            usable = next((entry for entry in versions.values() if entry.bundle is not None), None)
            if usable is None:
                raise BundleRefused(
                    f"No version of {name} can be used: {next(iter(versions.values())).refused}",
                    mend="`discern detector list` gives the reason for each version.",
                )
            return usable
        entry = versions.get(version)
        if entry is None:
            raise UnknownDetector(
                f"{name} has no version {version!r}.",
                mend=f"It has {', '.join(versions)}.",
                detector=name,
                version=version,
            )
        if entry.bundle is None:
            raise BundleRefused(f"{name} {version} cannot be used: {entry.refused}")
        return entry

    def usable(self, name: str, version: str | None = None) -> Bundle:
        """Return a usable bundle. Raises what `find` raises."""
        return self._bundle_of(self.find(name, version))

    def taking(self, kind: InputKind) -> list[str]:
        """Return the names of the usable detectors that take this kind of input."""
        names = {entry.name for entry in self.all() if entry.bundle and kind in takes(entry.bundle.manifest)}
        return sorted(names)

    def get(self, name: str, version: str | None = None) -> Detector:
        """Return a detector ready to run. Raises what `find` raises, and BundleRefused where its models do not run."""
        bundle = self._bundle_of(self.find(name, version))
        loaded = self._loaded.get(bundle.digest)
        if loaded is not None:
            return loaded
        with self._lock:
            loading = self._loading.setdefault(bundle.digest, threading.Lock())
        with loading:
            if bundle.digest not in self._loaded:
                try:
                    self._vet_once(bundle)
                    self._loaded[bundle.digest] = load_detector(bundle, threads=self._inference_threads)
                except BundleRefused:
                    # It held when it was listed: look again, so that the list says what is wrong.
                    self._signature = None
                    raise
                log.info("detector_loaded", detector=name, version=bundle.manifest.version, digest=bundle.digest)
            return self._loaded[bundle.digest]

    def add(self, source: Path) -> Listed:
        """Verify the bundle at `source`, a folder or an archive, try its models, and copy it to the home folder.

        Raises BundleRefused or BundleUntrusted; nothing is changed then.
        """
        if source.is_file():
            with tempfile.TemporaryDirectory(prefix="discern-add-") as folder:
                return self.add(read_archive(source, Path(folder) / "bundle"))
        bundle = open_bundle(source, self.trust())
        manifest = bundle.manifest
        with self._lock:
            self._refresh()
            present = self._listed.get(manifest.name, {}).get(manifest.version)
        if present is not None:
            raise BundleRefused(
                f"{manifest.name} {manifest.version} is already here ({present.origin}).",
                mend="A version never changes: give the new bundle a higher version.",
                file="detector.yaml",
                reason="this version is taken",
            )
        self._vet_once(bundle)
        self._copy_in(bundle)
        return self.find(manifest.name, manifest.version)

    def remove(self, name: str, version: str) -> None:
        """Delete an added bundle. Raises UnknownDetector, or OperatorError for one that is part of the package."""
        with self._lock:
            self._refresh()
            entry = self._listed.get(name, {}).get(version)
        if entry is None:
            raise UnknownDetector(
                f"There is no {name} {version}.", mend="`discern detector list` shows the detectors.", detector=name
            )
        if entry.origin == "builtin":
            raise OperatorError(
                f"{name} {version} is part of the installation and stays.", mend="Added versions can be removed."
            )
        # Renamed first: a reader sees the bundle whole or not at all.
        going = entry.root.with_name(f".removed-{entry.root.name}")
        entry.root.rename(going)
        shutil.rmtree(going)
        if not any(entry.root.parent.iterdir()):
            entry.root.parent.rmdir()

    def load_all(self) -> None:
        """Load the version of every detector that answers by default; what cannot be loaded is logged."""
        for name in {entry.name for entry in self.all()}:
            try:
                self.get(name)
            except BundleRefused as error:
                log.warning("detector_refused", detector=name, reason=str(error))

    def ping(self) -> None:
        """Raise BundleRefused unless at least one detector can be used."""
        if not any(entry.bundle is not None for entry in self.all()):
            raise BundleRefused("No detector can be used.", mend="`discern detector list` gives the reasons.")

    def _bundle_of(self, entry: Listed) -> Bundle:
        if entry.bundle is None:
            raise BundleRefused(f"{entry.name} {entry.version} cannot be used: {entry.refused}")
        return entry.bundle

    def trust(self) -> TrustStore:
        """Return the keys this installation trusts: those of the package and those in `trust/`."""
        return TrustStore(self._trust_folders)

    def _refresh(self) -> None:
        signature = folder_signature(self._added, *self._trust_folders)
        if signature == self._signature:
            return
        listed: dict[str, dict[str, Listed]] = {}
        trust = self.trust()
        # Shipped bundles first: a bundle put into the home folder by hand never takes a shipped version's place.
        for root, origin in (*_folders(self._builtin, "builtin"), *_folders(self._added, "added")):
            entry = self._inspect(root, origin, trust)
            listed.setdefault(entry.name, {}).setdefault(entry.version, entry)
        self._listed = {
            name: dict(sorted(versions.items(), key=lambda item: version_order(item[0]), reverse=True))
            for name, versions in sorted(listed.items())
        }
        self._signature = signature

    def _inspect(self, root: Path, origin: Origin, trust: TrustStore) -> Listed:
        name, version = (root.parent.name, root.name) if origin == "added" else (root.name, "0.0.0")
        try:
            bundle = open_bundle(root, trust)
        except BundleRefused as error:
            log.warning("bundle_refused", path=str(root), reason=str(error))
            return Listed(name, version, origin, root, None, str(error))
        manifest = bundle.manifest
        if origin == "added" and (manifest.name, manifest.version) != (name, version):
            reason = f"The folder says {name} {version}, the manifest {manifest.name} {manifest.version}."
            return Listed(name, version, origin, root, None, reason)
        return Listed(manifest.name, manifest.version, origin, root, bundle)

    def _vet_once(self, bundle: Bundle) -> None:
        mark = self._vetted / bundle.digest
        if mark.exists():
            return
        vet(bundle, self._limits)
        self._vetted.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def _copy_in(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        target = self._added / manifest.name / manifest.version
        target.parent.mkdir(parents=True, exist_ok=True)
        coming = target.with_name(f".adding-{manifest.version}")
        shutil.rmtree(coming, ignore_errors=True)
        shutil.copytree(bundle.root, coming)
        # What was verified is what is kept: the copy is opened again before it takes its place.
        copied = open_bundle(coming, self.trust())
        if copied.digest != bundle.digest:
            shutil.rmtree(coming)
            raise BundleRefused(f"{bundle.root} changed while it was being added.", mend="Add it again.")
        coming.rename(target)


def _folders(parent: Path, origin: Origin) -> Iterator[tuple[Path, Origin]]:
    pattern = "*" if origin == "builtin" else "*/*"
    for path in sorted(parent.glob(pattern)):
        if path.is_dir() and not path.name.startswith((".", "__")) and not path.parent.name.startswith("."):
            yield path, origin
