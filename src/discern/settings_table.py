"""The one table of settings: name, type, default, unit and help of everything an operator can set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _setting(
    default: Any,  # noqa: ANN401 - each field's own annotation says its type
    text: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
) -> Any:  # noqa: ANN401
    metadata = {"help": text, "unit": unit, "minimum": minimum, "maximum": maximum}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything an operator can set. The reference page is generated from this table."""

    home: Path = _setting(Path("~/.discern"), "Folder for the database, added detectors, keys and `discern.toml`.")
    host: str = _setting("127.0.0.1", "Address the server listens on.")
    port: int = _setting(8000, "Port the server listens on; 0 takes a free one.", minimum=0, maximum=65_535)
    log_level: str = _setting("info", "Least severe level that is logged: debug, info, warning or error.")
    log_levels: str = _setting("", "Levels of single modules, with commas: `detection=debug, uvicorn=info`.")
    log_to: str = _setting("stderr", "Where the log goes without a file: stderr or stdout.")
    log_file: Path | None = _setting(
        None, "File to log to instead; of several processes each has its own, with its number before the ending."
    )
    log_file_bytes: int = _setting(
        50_000_000, "Size at which a log file is put aside and another begun.", unit="bytes", minimum=10_000
    )
    log_files: int = _setting(5, "Log files that are kept beside the one that is written.", minimum=1, maximum=1000)
    ledger_durability: str = _setting(
        "normal",
        "`normal` survives the death of the process, `full` also the loss of power, for a disk flush a write.",
    )
    database_url: str = _setting(
        "",
        "PostgreSQL to use instead of SQLite in the home folder: `postgresql://user:password@host/database`.",
        secret=True,
    )
    database_connections: int = _setting(
        10, "Connections to PostgreSQL that a process holds at most.", minimum=2, maximum=1000
    )
    database_replica_url: str = _setting(
        "", "Streaming replica of that PostgreSQL which lists and counts are read from.", secret=True
    )
    database_replica_seconds: float = _setting(
        5.0, "How far behind it may be; beyond that the primary is read.", unit="seconds", minimum=0.1
    )
    redis_url: str = _setting("", "Redis or Valkey to share known answers through: `redis://host:6379/0`.", secret=True)
    cache_entries: int = _setting(
        10_000, "Answers a process keeps, so that nothing is judged twice; 0 keeps none.", minimum=0
    )
    cache_seconds: int = _setting(86_400, "Time an answer is kept.", unit="seconds", minimum=1)
    cache_wait_milliseconds: float = _setting(
        5.0, "Longest wait for Redis; what takes longer is a miss.", unit="milliseconds", minimum=0.1
    )
    drift_window_verdicts: int = _setting(
        1000, "Verdicts of a release that are compared with its reference together; 0 watches no drift.", minimum=0
    )
    drift_window_seconds: float = _setting(
        60.0,
        "Time that these are gathered for at least: 86400 where days or nights differ.",
        unit="seconds",
        minimum=0,
    )
    drift_windows_per_false_alarm: int = _setting(
        10_000, "Windows of a release, while nothing changes, to one false alarm at most.", minimum=20
    )
    drift_least_distance: float = _setting(
        0.05, "Share of the verdicts that must have moved for an alarm, however sure it is.", minimum=0, maximum=1
    )
    drift_baseline_windows: int = _setting(
        10, "Windows that a reference is learned from where the bundle has none.", minimum=1, maximum=10_000
    )
    drift_left_out: str = _setting(
        "card-fraud:night,card-fraud:weekend",
        "Fields that no sketch is kept of, as `DETECTOR:FIELD`, separated by commas: those that must not be kept, and "
        "those that tell the time, which move by themselves.",
    )
    workers: int = _setting(1, "Processes that answer; `discern up --workers` says it too.", minimum=1, maximum=256)
    detection_threads: int = _setting(
        0,
        "Inputs a process decodes and judges at the same time; 0 shares the processor cores out among the processes.",
        minimum=0,
    )
    batch_rows: int = _setting(256, "Most rows that one run of a detector takes.", minimum=1, maximum=65_536)
    batch_deadline_seconds: float = _setting(
        0.05, "Wait after which an input goes before others that came later.", unit="seconds", minimum=0
    )
    max_waiting_rows: int = _setting(
        100_000, "Rows (images, frames, records) that may wait before further ones get 503.", minimum=1
    )
    inference_threads: int = _setting(1, "Threads one model run may use.", minimum=1)
    variant: str = _setting(
        "served",
        "Models that run of a bundle with variants: `served`, as it says itself, or `fp32`, the original ones.",
    )
    max_waiting: int = _setting(256, "Inputs that may be in work or waiting before further ones get 503.", minimum=1)
    waiting_bytes: int = _setting(
        1_000_000_000, "Bytes of inputs that may be in work or waiting likewise.", unit="bytes", minimum=1
    )
    body_seconds: float = _setting(
        20.0, "Time a request body may take, and a second more for every 10 kB of it.", unit="seconds", minimum=0.1
    )
    batch_records: int = _setting(10_000, "Most records of one request of the batch route.", minimum=1)
    batch_images: int = _setting(256, "Most images or clips of one request of the batch route.", minimum=1)
    batch_bytes: int = _setting(
        100_000_000, "Largest body of such a request, and the most that it may unpack to.", unit="bytes", minimum=1
    )
    header_seconds: float = _setting(
        10.0, "Time the head of a request may take, and a fresh connection to begin one.", unit="seconds", minimum=0.1
    )
    header_bytes: int = _setting(32_768, "Most bytes of the head of a request.", unit="bytes", minimum=1024)
    idle_seconds: float = _setting(30.0, "Time a connection may stay open between requests.", unit="seconds", minimum=1)
    write_seconds: float = _setting(30.0, "Time a client may leave an answer unread.", unit="seconds", minimum=0.1)
    max_connections: int = _setting(20_000, "Connections a process holds open at the same time.", minimum=1)
    max_connections_per_address: int = _setting(
        0, "Of these from one address; 0 sets no limit, for behind a proxy all come from one.", minimum=0
    )
    max_waiting_jobs: int = _setting(1000, "Jobs that may wait or run before further ones get 503.", minimum=1)
    max_waiting_jobs_per_workspace: int = _setting(
        500, "Of these of one workspace, so that it does not take the place of all; 0 sets no limit.", minimum=0
    )
    job_bytes: int = _setting(2_000_000_000, "Largest input of a job.", unit="bytes", minimum=1)
    jobs_at_a_time: int = _setting(2, "Jobs a process runs at the same time.", minimum=1, maximum=64)
    job_keep_seconds: int = _setting(
        604_800, "Time a job that has ended, and its file of results, is kept.", unit="seconds", minimum=60
    )
    job_lease_seconds: float = _setting(
        10.0, "Time after which the jobs of a process that died are taken over.", unit="seconds", minimum=3
    )
    webhook_allow: str = _setting(
        "", "Networks that webhooks may call although they are private, with commas: `10.1.0.0/16, ::1`."
    )
    webhook_secret: str = _setting(
        "", "What webhooks are signed with; empty: the file `keys/webhook.secret`, made at the first.", secret=True
    )
    alert_rules: Path | None = _setting(
        None, "Rules, channels and routes of alerts; else `alerts.toml` in the home folder."
    )
    alert_seconds: float = _setting(
        5.0, "Pause between two looks at the rules of alerts.", unit="seconds", minimum=0.2, maximum=60
    )
    alert_keep_days: int = _setting(30, "Days that alerts and notices are kept that are over.", unit="days", minimum=1)
    alert_give_up_seconds: float = _setting(
        21_600.0, "Time after which a notice is given up that a channel does not take.", unit="seconds", minimum=60
    )
    tls_certificate: Path | None = _setting(None, "Certificate chain (PEM) to serve HTTPS with, TLS 1.3 alone.")
    tls_key: Path | None = _setting(None, "Private key (PEM) of that certificate.")
    tls_client_ca: Path | None = _setting(
        None, "Authority (PEM) of client certificates: a device may show one instead of a key."
    )
    trusted_proxies: str = _setting(
        "", "Networks of proxies whose `X-Forwarded-For` is believed, with commas: `10.0.0.0/8, ::1`."
    )
    cors_origins: str = _setting(
        "", "Origins whose pages may read answers in a browser, with commas: `https://console.example.org`."
    )
    hsts_subdomains: int = _setting(
        0,
        "1: over TLS, tell browsers for a year that every name below the server's own is reached by TLS alone; 0: its "
        "own name.",
        minimum=0,
        maximum=1,
    )
    rate_limits: str = _setting(
        "",
        "Requests a time, with commas: `key 100/second, workspace 5000/minute, address 50/second`.",
    )
    metrics_token: str = _setting(
        "", "What Prometheus sends as `Authorization: Bearer ...` to read `/metrics`; empty: an API key.", secret=True
    )
    metrics_workspaces: int = _setting(
        100,
        "Workspaces that `/metrics` names, those that have been there longest; the others are told together.",
        minimum=0,
    )
    trace_url: str = _setting(
        "", "OTLP endpoint that traces of requests are sent to: `http://localhost:4318`; empty: nothing is traced."
    )
    trace_ratio: float = _setting(
        0.01,
        "Share of requests that are traced beside those whose callers keep a trace; 20 a second of a process at most.",
        minimum=0,
        maximum=1,
    )
    trace_headers: str = _setting(
        "", "Headers for that endpoint, with commas: `Authorization=Basic ..., X-Scope-OrgID=1`.", secret=True
    )
    probing_alike: int = _setting(
        64,
        "Near duplicates among 256 questions of one key to a detector that are put on the audit log as probing; 0 for "
        "none.",
        minimum=0,
        maximum=255,
    )
    token_seconds: float = _setting(
        300.0, "Time a token lasts that a key was exchanged for.", unit="seconds", minimum=10, maximum=3600
    )
    second_factor_roles: str = _setting(
        "", "Roles whose users must have a second factor, with commas: `owner,operator`."
    )
    factor_secret: str = _setting(
        "",
        "What the secrets of second factors are sealed with, of 32 characters at least; empty: the file "
        "`keys/factors.secret`, made at the first.",
        secret=True,
    )
    passkey_origins: str = _setting(
        "", "Origins of the pages where passkeys are used, with commas: `https://discern.example.org`; empty: none."
    )
    passkey_relying_party: str = _setting(
        "", "Domain that passkeys are for; empty: the host of the first origin. A change makes all passkeys useless."
    )
    passkey_user_verification: str = _setting(
        "preferred", "Whether a passkey asks for a PIN or a finger: required, preferred or discouraged."
    )
    sms_url: str = _setting("", "http or https URL that takes codes as POSTs and sends them by SMS; empty: none.")
    public_url: str = _setting(
        "",
        "Where browsers reach this installation, for sign-in through OIDC and SAML: `https://discern.example.org`.",
    )
    identity_providers: Path | None = _setting(
        None,
        "Identity providers to sign in through, and what their groups may; else `sign-in.toml` in the home folder.",
    )
    sign_in_secret: str = _setting(
        "",
        "What a sign-in under way is sealed with; empty: the file `keys/sign-in.secret`, made at the first.",
        secret=True,
    )
    federated_session_seconds: float = _setting(
        3600.0,
        "Longest time a session lasts that was begun through an identity provider.",
        unit="seconds",
        minimum=60,
        maximum=43_200,
    )
    audit_anchor: str = _setting(
        "",
        "Where the audit log is anchored outside the database: a file, `s3://bucket/prefix` (or gs://, az://), or an "
        "http or https URL that takes POSTs; empty: `audit-anchors.jsonl` in the home folder.",
    )
    audit_anchor_seconds: float = _setting(
        60.0, "Longest time that an entry of the audit log is not anchored.", unit="seconds", minimum=0
    )
    subject_keys_url: str = _setting(
        "",
        "PostgreSQL database that holds the keys of subjects, apart from that of the ledger and its backups; empty: "
        "`subject-keys.db` in the home folder.",
        secret=True,
    )
    objects_url: str = _setting(
        "",
        "Where what is kept lies, encrypted: `s3://bucket/prefix`, `gs://bucket/prefix` or "
        "`az://container/prefix`; empty: `objects` in the home folder.",
    )
    master_key: str = _setting(
        "file",
        "What wraps the keys of objects: `file` (`keys/master` in the home folder), `secret`, `vault` or `aws`.",
    )
    master_secret: str = _setting(
        "", "The master key `secret`: 32 bytes in Base64; older ones after it, with commas.", secret=True
    )
    vault_url: str = _setting(
        "", "Vault (or OpenBao) that has the master key `vault`: `https://vault.example.org:8200`."
    )
    vault_token: str = _setting("", "Token for it.", secret=True)
    vault_key: str = _setting("transit/discern", "Its key there: the path of the transit engine, and the key's name.")
    aws_kms_key: str = _setting(
        "", "Key of AWS KMS that is the master key `aws`: an alias, `alias/discern`, or an ARN."
    )
    aws_kms_endpoint: str = _setting("", "KMS where it is not Amazon's; else AWS_ENDPOINT_URL_KMS.")
    max_streams: int = _setting(12_000, "Streams a process holds open at the same time.", minimum=1)
    max_streams_per_workspace: int = _setting(
        6000, "Of these of one workspace, so that it does not take the place of all; 0 sets no limit.", minimum=0
    )
    stream_waiting: int = _setting(
        8, "Messages of a stream that wait: of frames the oldest is dropped, records are read later.", minimum=1
    )
    stream_waiting_bytes: int = _setting(
        500_000_000, "Bytes that wait in all streams of a process.", unit="bytes", minimum=1
    )
    stream_idle_seconds: float = _setting(
        300.0, "Time a stream may stay open without a message.", unit="seconds", minimum=0.1
    )
    drain_seconds: float = _setting(
        30.0, "Time a process that was told to stop takes to answer what is in work.", unit="seconds", minimum=1
    )
    hang_seconds: float = _setting(
        60.0,
        "Time one of several processes may let nothing happen before it is ended and replaced.",
        unit="seconds",
        minimum=5,
    )
    label_bytes: int = _setting(
        10_000_000,
        "Largest body of `POST /v1/labels`; its lines are as many as `batch_records` at most.",
        unit="bytes",
        minimum=1,
    )
    holdout_share: float = _setting(
        0.0,
        "Share of verdicts that are held out for labelling whatever was decided: `discern label wanted`; 0 for none.",
        minimum=0,
        maximum=1,
    )
    holdout_secret: str = _setting(
        "",
        "What tells which verdicts these are; empty: the file `keys/holdout.secret`, made at the first. A change holds "
        "out others.",
        secret=True,
    )
    quality_window_days: int = _setting(
        1, "Length of the windows that quality is measured over, aligned to UTC.", unit="days", minimum=1, maximum=31
    )
    quality_days: int = _setting(90, "Time that quality looks back.", unit="days", minimum=1, maximum=730)
    label_share: float = _setting(
        0.9,
        "Share of a window's labels that must have come before quality by labels is taken from it.",
        minimum=0.5,
        maximum=0.999,
    )
    quality_gap_odds: float = _setting(
        1.25,
        "Factor by which the odds of being positive may differ from what scores say before it counts as a gap.",
        minimum=1,
        maximum=10,
    )
    quality_false_alarms: float = _setting(
        0.01,
        "Chance that a release whose scores are right is ever said to have a gap, however often it is looked at.",
        minimum=0.000_001,
        maximum=0.5,
    )
    currency: str = _setting("EUR", "Currency of prices and budgets, in three letters.")
    price_per_hour: float = _setting(
        0.0, "What an hour costs that verdicts take, added up over all of them.", unit="currency", minimum=0
    )
    price_per_verdict: str = _setting(
        "",
        "What a verdict costs by its detector, with commas: `card-fraud=0.002, *=0.0005`; `*` stands for all others.",
        unit="currency",
    )
    s3_endpoint: str = _setting("", "S3 to read from where it is not Amazon's; else AWS_ENDPOINT_URL.")
    s3_region: str = _setting("", "Region of S3; else AWS_REGION or AWS_DEFAULT_REGION.")
    s3_access_key: str = _setting("", "Access key for S3; else AWS_ACCESS_KEY_ID.", secret=True)
    s3_secret_key: str = _setting("", "Secret key for S3; else AWS_SECRET_ACCESS_KEY.", secret=True)
    s3_session_token: str = _setting("", "Session token for S3; else AWS_SESSION_TOKEN.", secret=True)
    face_model: Path | None = _setting(None, "YuNet face detector (.onnx) to use instead of the built-in cascade.")
    image_bytes: int = _setting(25_000_000, "Largest image.", unit="bytes", minimum=1)
    image_pixels: int = _setting(50_000_000, "Most pixels an image may decode to.", unit="pixels", minimum=1)
    video_bytes: int = _setting(200_000_000, "Largest video.", unit="bytes", minimum=1)
    video_pixels: int = _setting(8_847_360, "Most pixels a video frame may have.", unit="pixels", minimum=1)
    video_seconds: float = _setting(600.0, "Longest video.", unit="seconds", minimum=0, maximum=86_400)
    record_bytes: int = _setting(1_000_000, "Largest record.", unit="bytes", minimum=1)
    vetting_bytes: int = _setting(
        4_000_000_000,
        "Memory the child that tries a bundle's models may use.",
        unit="bytes",
        minimum=100_000_000,
    )
    vetting_seconds: float = _setting(
        60.0, "Time that trying a bundle's models may take.", unit="seconds", minimum=0.1, maximum=3600
    )
