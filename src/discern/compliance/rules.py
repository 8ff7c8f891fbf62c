"""What is shown by what was found, and what somebody should look at. Pure.

- No sentence and no fact holds a secret, a person's name, an address or a path: numbers, roles and names of detectors.
- A control is as its weakest evidence; without evidence it is the operator's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from discern.access.types import ApiKey, User
from discern.audit.types import Verification
from discern.compliance.ports import WaysIn
from discern.compliance.types import Control, Evidence, EvidenceName, Facts, Installation, Kept, State
from discern.registry.types import Listed, Usable

UNUSED = timedelta(days=90)
_WEAKEST_FIRST: tuple[State, ...] = ("attention", "operator", "shown")


def state_of(control: Control, found: Mapping[EvidenceName, Evidence]) -> State:
    """Return the state of a control by the evidence for it."""
    states = {found[name].state for name in control.evidence}
    return next((state for state in _WEAKEST_FIRST if state in states), "operator")


def version(installation: Installation) -> Evidence:
    """Tell which software runs, on which database."""
    facts: Facts = {"version": installation.version, "database": installation.database}
    return Evidence("version", "shown", f"Discern {installation.version} on {installation.database}.", facts)


def transport(installation: Installation) -> Evidence:
    """Tell whether callers are spoken to by TLS."""
    facts: Facts = {
        "tls": installation.has_tls,
        "client_certificates": installation.takes_client_certificates,
        "loopback_only": installation.is_local,
    }
    if installation.has_tls:
        also = ", client certificates are taken" if installation.takes_client_certificates else ""
        return Evidence("transport", "shown", f"HTTPS by TLS 1.3 alone{also}.", facts)
    if installation.trusted_proxies:
        unknown = "Whether the proxies in front end TLS: Discern sees plain HTTP from them."
        return Evidence("transport", "operator", "TLS is left to the trusted proxies.", facts, unknown)
    where = "on this machine alone" if installation.is_local else "on the network"
    return Evidence("transport", "attention", f"Plain HTTP, {where}: no certificate is set and no proxy.", facts)


def proxies(installation: Installation) -> Evidence:
    """Tell who is believed about where a request came from, and whose pages may read answers."""
    trusted, origins = installation.trusted_proxies, installation.cors_origins
    says = f"{_many(trusted, 'network')} of proxies believed; {_many(origins, 'other origin')} may read answers."
    return Evidence("proxies", "shown", says, {"trusted_proxies": trusted, "cors_origins": origins})


def limits(installation: Installation) -> Evidence:
    """Tell what bounds requests and inputs."""
    facts: Facts = {"rate_limits": installation.rate_limits, **installation.limits}
    given = installation.rate_limits
    if not any(len(rule.split()) == 2 for rule in given.split(",")):  # a third word is a route
        which = f"are on single routes alone ({given})" if given else "are not: rate_limits is not set"
        says = f"Inputs, connections and what waits are bounded; requests a time {which}."
        return Evidence("limits", "attention", says, facts)
    says = f"Requests a time are bounded ({given}), inputs, connections and what waits too."
    return Evidence("limits", "shown", says, facts)


def durability(installation: Installation) -> Evidence:
    """Tell what an answered verdict survives."""
    facts: Facts = {"ledger_durability": installation.durability}
    if installation.durability == "full":
        return Evidence("durability", "shown", "An answered verdict survives the loss of power.", facts)
    says = "An answered verdict survives the death of the process, not surely the loss of power."
    return Evidence("durability", "attention", says, facts)


def audit_log(seen: Verification) -> Evidence:
    """Tell whether the audit log holds, and against what it was held."""
    gaps, anchors = len(seen.gaps), seen.anchors
    facts: Facts = {"entries": seen.entries, "faults": len(seen.faults), "gaps": gaps, "anchors": anchors}
    entries = _many(seen.entries, "entry")
    if seen.faults:
        says = f"THE AUDIT LOG DOES NOT HOLD: {_many(len(seen.faults), 'fault')} in {entries}."
        return Evidence("audit_log", "attention", f"{says} `discern audit verify` names them.", facts)
    lost = f", with {_many(gaps, 'acknowledged gap')} where a backup was restored" if gaps else ""
    if anchors is None:
        unknown = "Whether the end of the audit log was cut off: its anchors cannot be read back from here."
        says = f"The chain of {entries} holds{lost}; it was not held against anchors."
        return Evidence("audit_log", "attention", says, facts, unknown)
    if seen.entries and not anchors:
        unknown = "Whether the end of the audit log was cut off: there is no anchor yet."
        says = f"The chain of {entries} holds{lost}; there is no anchor yet."
        return Evidence("audit_log", "attention", says, facts, unknown)
    says = f"The chain of {entries} holds, against {_many(anchors, 'anchor')}{lost}."
    return Evidence("audit_log", "attention" if gaps else "shown", says, facts)


def audit_anchor(installation: Installation) -> Evidence:
    """Tell where anchors go."""
    facts: Facts = {"anchors_in": installation.anchors_in, "anchor_seconds": installation.anchor_seconds}
    every = f"every {installation.anchor_seconds:g} seconds at most"
    if installation.anchors_in == "home folder":
        says = f"Anchors are kept {every}, in the home folder: whoever can change it can change both."
        return Evidence("audit_anchor", "attention", says, facts)
    unknown = "Whether whoever can change the database can also change the anchors."
    return Evidence("audit_anchor", "shown", f"Anchors go to a {installation.anchors_in} {every}.", facts, unknown)


def users(found: Iterable[User], ways_in: WaysIn, demands_factor: Collection[str]) -> Evidence:
    """Tell how many people there are of each role, and by what they come in.

    Somebody should look at those whose role is in `demands_factor` and who have shown a password alone.
    """
    by_role: dict[str, Counter[str]] = {}
    disabled = locked = without = 0
    for user in found:
        disabled += user.disabled_at is not None
        locked += user.locked_until is not None
        if user.disabled_at is None:
            ways = ways_in(user)
            by_role.setdefault(user.role, Counter()).update(["users", *ways])
            without += user.role in demands_factor and list(ways) == ["password"]
    count = sum(counts["users"] for counts in by_role.values())
    told = "; ".join(f"{role}: {_counted(counts)}" for role, counts in sorted(by_role.items()))
    says = f"{_many(count, 'user')} can sign in, {disabled} disabled, {locked} locked{'. ' + told if told else ''}."
    facts: Facts = {role: dict(sorted(counts.items())) for role, counts in sorted(by_role.items())}
    if without:
        says += f" {without} must enrol a second factor at their next sign-in."
    facts |= {"disabled": disabled, "locked": locked, "without_the_demanded_factor": without}
    return Evidence("users", "attention" if without else "shown", says, facts)


def keys(found: Iterable[ApiKey], now: datetime) -> Evidence:
    """Tell how many keys there are, and which of them nobody would miss."""
    live = [key for key in found if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)]
    endless = sum(key.expires_at is None for key in live)
    unused = sum((key.last_used_at or key.created_at) < now - UNUSED for key in live)
    facts: Facts = {
        "live": len(live),
        "without_end": endless,
        "unused_for_90_days": unused,
        "by_certificate": sum(key.certificate_sha256 is not None for key in live),
        "by_role": dict(sorted(Counter(key.role for key in live).items())),
    }
    says = f"{_many(len(live), 'live key')}: {endless} without an end, {unused} unused for {UNUSED.days} days."
    return Evidence("keys", "attention" if endless or unused else "shown", says, facts)


def detectors(found: Iterable[Listed]) -> Evidence:
    """Tell which detectors run, and that nothing runs whose signature does not hold."""
    entries = list(found)
    usable = [f"{one.name} {one.version}" for one in entries if isinstance(one, Usable)]
    refused = [f"{one.name} {one.version}" for one in entries if not isinstance(one, Usable)]
    says = f"{_many(len(usable), 'detector')} with digests and signature that hold: {_listed(usable)}."
    if refused:
        says += f" Refused, and not run: {_listed(refused)}."
    facts: Facts = {"signed": usable, "refused": refused}
    return Evidence("detectors", "attention" if refused else "shown", says, facts)


def retention(kept: Sequence[Kept]) -> Evidence:
    """Tell how long what is kept."""
    endless = [one.what for one in kept if one.seconds is None]
    ending = [f"{one.what} {_time(one.seconds)}" for one in kept if one.seconds is not None]
    says = f"Kept for a time: {_listed(ending)}. Kept without an end: {_listed(endless)}."
    facts: Facts = {one.what: one.seconds for one in kept}
    return Evidence("retention", "attention" if endless else "shown", says, facts)


def policies(texts: Mapping[str, str]) -> Evidence:
    """Tell which policies are in force, by their digest."""
    digest = hashlib.sha256()
    for name, text in texts.items():
        for part in (name.rpartition("/")[2], text):
            digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    own = sum(not name.endswith("(shipped)") for name in texts)
    says = f"The shipped policies and {_many(own, 'file')} of one's own, SHA-256 {digest.hexdigest()}."
    return Evidence("policies", "shown", says, {"sha256": digest.hexdigest(), "own_files": own})


def not_established(name: EvidenceName, code: str) -> Evidence:
    """Tell that something could not be looked at; `code` is that of the error."""
    what = name.replace("_", " ")
    says = f"Could not be established ({code}); `discern doctor` says what is wrong."
    return Evidence(name, "attention", says, {"error": code}, f"The {what}: {code}.")


def _many(number: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("try") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
