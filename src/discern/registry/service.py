"""The catalogue of detectors.

- A bundle is verified (digests and signature) before it is listed as usable, and its models have run in a child process
  under limits before they run in this one; the outcome is remembered by the digest of the manifest and the runtime.
- A bundle added to the home folder, by this process or by another, is taken up without a restart: at once where a
  name or a version is asked for that was not known, else within `_FRESH_SECONDS`.
- A bundle that does not hold, or whose models do not run, is listed with the reason and never run; the others keep
  working.
- Without a version asked for, the highest usable one answers.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from discern.core.breakers import Breakers
from discern.core.errors import BundleRefused, OperatorError, UnknownDetector
from discern.core.verdict import InputKind
from discern.detectors.assessment import Detector, load_detector
from discern.detectors.bundle import Bundle, list_files, open_bundle, read_file
from discern.detectors.files import appearing_folder, replace_file
from discern.detectors.packing import read_archive
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import VettingLimits, vet, vetting_mark
from discern.monitoring.ports import Happenings, NothingHappens
from discern.registry.types import Listed, Origin, Refused, Usable, takes, version_order

log = logging.getLogger(__name__)
FolderTimes = tuple[tuple[str, int], ...]
_FRESH_SECONDS = 0.1
_LIST = "`discern detector list` shows the detectors."


class Catalogue:
    """The bundles of an installation, and the detectors loaded from them.

    `home` is the folder that holds `detectors/`, `trust/` and `vetted/`. Without `variants` the stages' own models
    run, whatever bundles serve. With `breakers` a stage that fails is left alone for a while, and its session replaced.
    Thread-safe.
    """

    def __init__(
        self,
        *,
        builtin: Path,
        home: Path,
        limits: VettingLimits,
        inference_threads: int = 1,
        variants: bool = True,
        breakers: Breakers | None = None,
        happenings: Happenings | None = None,
    ) -> None:
        self._builtin = builtin
        self._added = home / "detectors"
        self._vetted = home / "vetted"
        self._trust_folders = (builtin.parent / "keys", home / "trust")
        self.limits = limits
        self._inference_threads = inference_threads
        self._variants = variants
        self._breakers = breakers
        self._happenings = happenings or NothingHappens()
        self._lock = threading.RLock()
        self._times: FolderTimes | None = None
        self._listed: dict[str, dict[str, Listed]] = {}
        self._do_not_run: dict[str, str] = {}
        self._loaded: dict[str, Detector] = {}
        self._loading: dict[str, threading.Lock] = {}
        # What `loaded` answers from without a lock: replaced, never changed.
        self._at_hand: dict[tuple[str, str | None], Detector] = {}
        self._fresh_until = 0.0

    def all(self) -> list[Listed]:
        """Return every bundle that was found, by name, newest version first."""
        with self._lock:
            self._refresh()
            return [entry for versions in self._listed.values() for entry in versions.values()]

    def find(self, name: str, version: str | None = None) -> Usable:
        """Return a usable bundle. Raises UnknownDetector, or BundleRefused where none holds."""
        with self._lock:
            self._refresh()
            versions = self._listed.get(name)
        if not versions:
            raise UnknownDetector(f"There is no detector {name!r}.", mend=_LIST, detector=name)
        if version is None:
            usable = next((entry for entry in versions.values() if isinstance(entry, Usable)), None)
            if usable is not None:
                return usable
            reasons = "; ".join(entry.reason for entry in versions.values() if isinstance(entry, Refused))
            raise BundleRefused(f"No version of {name} can be used: {reasons}", detector=name)
        entry = versions.get(version)
        if entry is None:
            detail = f"{name} has no version {version!r}."
            raise UnknownDetector(detail, mend=f"It has {', '.join(versions)}.", detector=name, version=version)
        if isinstance(entry, Refused):
            raise BundleRefused(f"{name} {version} cannot be used: {entry.reason}", detector=name, version=version)
        return entry

    def loaded(self, name: str, version: str | None = None) -> Detector | None:
        """Return a detector that is loaded, without asking the disk or waiting for anybody, or None to ask `get`.

        The first to come when the catalogue is no longer fresh gets None and asks, those after it are answered.
        """
        now = time.monotonic()
        if now >= self._fresh_until:
            self._fresh_until = now + _FRESH_SECONDS
            return None
        return self._at_hand.get((name, version))

    def taking(self, kind: InputKind) -> list[str]:
        """Return the names of the usable detectors that take this kind of input.

        Those that judge over time (`stream`) are left out where others take it: they are asked by name.
        """
        usable = (entry.bundle.manifest for entry in self.all() if isinstance(entry, Usable))
        taking = [manifest for manifest in usable if kind in takes(manifest)]
        at_once = {manifest.name for manifest in taking if manifest.stream is None}
        return sorted(at_once or {manifest.name for manifest in taking})

    def get(self, name: str, version: str | None = None) -> Detector:
        """Return a detector ready to run. Raises what `find` raises, and BundleRefused where its models do not run."""
        bundle = self.find(name, version).bundle
        with self._lock:
            loaded = self._loaded.get(bundle.digest)
            loading = self._loading.setdefault(bundle.digest, threading.Lock())
        if loaded is None:
            with loading:
                loaded = self._load_once(bundle)
        at_hand = {(name, version): loaded}
        if version is not None and self.find(name).bundle.digest == bundle.digest:
            # Whoever names no version means this one.
            at_hand[name, None] = loaded
        with self._lock:
            self._at_hand = {**self._at_hand, **at_hand}
        return loaded

    def add(self, source: Path) -> Usable:
        """Verify the bundle at `source`, a folder or an archive, try its models, and copy it to the home folder.

        Raises BundleRefused, BundleUntrusted, or OperatorError where it cannot be written; nothing is changed then.
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
        with appearing_folder(self._added / manifest.name / manifest.version) as folder:
            for file, size in list_files(bundle.root).items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                replace_file(folder / file, read_file(bundle.root, file, size))
            # What was verified is what is kept: the copy is opened before it takes its place.
            if open_bundle(folder, self.trust()).digest != bundle.digest:
                raise BundleRefused(f"{source} changed while it was being added.", mend="Add it again.")
        return self.find(manifest.name, manifest.version)

    def remove(self, name: str, version: str) -> None:
        """Delete an added bundle. Raises UnknownDetector, or OperatorError for one that is part of the package."""
        with self._lock:
            self._refresh()
            entry = self._listed.get(name, {}).get(version)
        if entry is None:
            raise UnknownDetector(f"There is no {name} {version}.", mend=_LIST, detector=name)
        if entry.origin == "builtin":
            detail = f"{name} {version} is part of the installation and stays."
            raise OperatorError(detail, mend="Versions that were added can be removed.")
        root = self._added / name / version
        try:
            # Renamed first: a reader sees the bundle whole or not at all.
            going = Path(tempfile.mkdtemp(prefix=".removed-", dir=root.parent))
            root.rename(going / version)
            shutil.rmtree(going)
            if not any(root.parent.iterdir()):
                root.parent.rmdir()
        except OSError as error:
            raise OperatorError(f"{root} cannot be removed: {error.strerror}.", mend="See its permissions.") from error

    def load_all(self) -> None:
        """Load the version of every detector that answers by default; what cannot be loaded is logged."""
        for name in sorted({entry.name for entry in self.all()}):
            try:
                self.get(name)
            except BundleRefused as error:
                log.warning("detector_refused", extra={"detector": name, "reason": str(error)})

    def ping(self) -> None:
        """Raise BundleRefused unless at least one detector can be used."""
        if not any(isinstance(entry, Usable) for entry in self.all()):
            raise BundleRefused("No detector can be used.", mend="`discern detector list` gives the reasons.")

    def trust(self) -> TrustStore:
        """Return the keys this installation trusts: those of the package and those in `trust/`."""
        return TrustStore(self._trust_folders)

    def _load_once(self, bundle: Bundle) -> Detector:
        loaded = self._loaded.get(bundle.digest)
        if loaded is not None:
            return loaded
        try:
            self._vet_once(bundle)
            loaded = load_detector(
                bundle, threads=self._inference_threads, breakers=self._breakers, tell=self._tell_replaced
            )
        except BundleRefused as error:
            with self._lock:
                # Listed as refused from here on, so that a lower version answers and nothing is tried twice.
                self._do_not_run[bundle.digest] = str(error)
                self._times = None
            raise
        with self._lock:
            self._loaded[bundle.digest] = loaded
        manifest = bundle.manifest
        facts = {"detector": manifest.name, "version": manifest.version, "digest": bundle.digest}
        log.info("detector_loaded", extra=facts)
        return loaded

    def _tell_replaced(self, stage: str, reason: str) -> None:
        self._happenings.tell("session.replaced", stage, reason=reason)

    def _refresh(self) -> None:
        times = _folder_times(self._added, *self._trust_folders)
        self._fresh_until = time.monotonic() + _FRESH_SECONDS
        if times == self._times:
            return
        self._at_hand = {}
        listed: dict[str, dict[str, Listed]] = {}
        trust = self.trust()
        # What ran in a child process was looked through before; digests and signatures are checked every time.
        inspected = frozenset(mark.name.partition("-")[0] for mark in self._vetted.glob("*"))
        for fault in trust.faults():
            log.warning("key_ignored", extra={"reason": fault})
        # Shipped bundles first: a bundle put into the home folder by hand never takes a shipped version's place.
        for root, origin in (*_folders(self._builtin, "builtin"), *_folders(self._added, "added")):
            entry = self._inspect(root, origin, trust, inspected)
            listed.setdefault(entry.name, {}).setdefault(entry.version, entry)
        self._listed = {
            name: dict(sorted(versions.items(), key=_newest_first, reverse=True))
            for name, versions in sorted(listed.items())
        }
        self._times = times
        entries = (entry for versions in self._listed.values() for entry in versions.values())
        usable = {entry.bundle.digest for entry in entries if isinstance(entry, Usable)}
        self._loaded = {digest: detector for digest, detector in self._loaded.items() if digest in usable}

    def _inspect(self, root: Path, origin: Origin, trust: TrustStore, inspected: frozenset[str]) -> Listed:
        name, version = (root.parent.name, root.name) if origin == "added" else (root.name, "0.0.0")
        try:
            bundle = open_bundle(root, trust, inspected=inspected)
        except BundleRefused as error:
            log.warning("bundle_refused", extra={"path": str(root), "reason": str(error)})
            return Refused(name, version, origin, root, str(error))
        bundle = bundle if self._variants else bundle.with_variant(None)
        manifest = bundle.manifest
        if origin == "added" and (manifest.name, manifest.version) != (name, version):
            reason = f"The folder says {name} {version}, the manifest {manifest.name} {manifest.version}."
            return Refused(name, version, origin, root, reason)
        fault = self._do_not_run.get(bundle.digest)
        if fault is not None:
            return Refused(manifest.name, manifest.version, origin, root, fault)
        return Usable(manifest.name, manifest.version, origin, bundle)

    def _vet_once(self, bundle: Bundle) -> None:
        mark = self._vetted / vetting_mark(bundle)
        if not mark.exists():
            vet(bundle, self.limits)
            try:
                self._vetted.mkdir(mode=0o700, parents=True, exist_ok=True)
                mark.touch()
            except OSError as error:
                detail = f"{mark} cannot be written: {error.strerror}."
                raise OperatorError(detail, mend="See the permissions of the home folder.") from error


def _newest_first(item: tuple[str, Listed]) -> tuple[int, ...]:
    try:
        return version_order(item[0])
    except ValueError:  # a folder put there by hand whose name is no version; it is refused, and listed last
        return ()


def _folders(parent: Path, origin: Origin) -> Iterator[tuple[Path, Origin]]:
    for path in sorted(parent.glob("*" if origin == "builtin" else "*/*")):
        if path.is_dir() and not path.name.startswith((".", "__")) and not path.parent.name.startswith("."):
            yield path, origin


def _folder_times(*folders: Path) -> FolderTimes:
    """Return something that changes when an entry of a folder, or of one of its sub-folders, comes or goes.

    A version is a folder that is renamed into place, which changes the time of its parent; what is in its files is
    covered by the bundle's digests, so two levels are enough.
    """
    seen: list[tuple[str, int]] = []
    for folder in folders:
        for path in (folder, *sorted(folder.glob("*"))):
            try:
                seen.append((str(path), path.stat().st_mtime_ns))
            except OSError:  # gone meanwhile, or a link that leads nowhere
                continue
    return tuple(seen)
