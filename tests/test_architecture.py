"""The import law and the house limits, held by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "discern"
FILES = sorted(path for path in SOURCE.rglob("*.py") if not {"subject_keys", "versions"} & {*path.parts})
FEATURES = {
    "access",
    "alerts",
    "audit",
    "compliance",
    "detection",
    "evaluation",
    "monitoring",
    "objects",
    "privacy",
    "quotas",
    "registry",
    "retention",
    "review",
}
# Features inside a feature. They build on it, and it knows nothing of them.
SUB_FEATURES = {"detection/bulk", "detection/jobs", "detection/streams", "evaluation/platforms", "evaluation/studio"}
SUB_FEATURES |= {
    "monitoring/analytics",
    "monitoring/drift",
    "monitoring/health",
    "monitoring/metrics",
    "monitoring/quality",
    "monitoring/tracing",
}
# What a sub-feature may import of the feature it lies in.
OF_THE_PARENT = {
    "types",
    "ports",
    "records",
    "sources",
    "store",
    "statistics",
    "metrics",
    "comparisons",
    "cascades",
    "datasets",
    "journal",
    "report",
    "service",
}

# Rank of the folders: a file imports only from its own folder and from lower ranks.
RANKS = (
    {"core": 0, "inputs": 1, "detectors": 2, "store": 2, "routes": 2, "tables": 2}
    | dict.fromkeys(FEATURES, 3)
    | {
        "http": 4,
        "app_storage": 5,
        "app_alerts": 6,
        "app_analytics": 6,
        "app_drift": 5,
        "app_jobs": 6,
        "app_monitoring": 7,
        "app_people": 6,
        "app_review": 5,
        "app_evidence": 7,
        "app": 8,
        "app_http": 9,
        "library": 9,
        "cli": 10,
    }
)
# Rank of the files inside a feature.
PARTS = {
    "": 0,
    "types": 0,
    "rules": 1,
    "catalogue": 1,
    "statistics": 1,
    "metrics": 1,
    "comparisons": 1,
    "cascades": 1,
    "events": 1,
    "ports": 1,
    "records": 1,
    "batches": 1,
    "layouts": 2,
    "store": 2,
    "sources": 2,
    "datasets": 2,
    "caching": 2,
    "committing": 2,
    "batching": 2,
    "journal": 2,
    "results": 2,
    "report": 2,
    "conditions": 3,
    "service": 3,
    "api": 4,
    "cli": 4,
}
# Which files may touch a framework; everything else does without.
OWNERS = {
    "opentelemetry": ("monitoring/tracing/sources.py",),
    "fastapi": ("http/", "app_http.py", "/api.py", "/api_users.py", "/api_factors.py", "/api_federation.py"),
    "starlette": (
        "http/",
        "/routes.py",
        "/api.py",
        "/api_batch.py",
        "/api_users.py",
        "/api_factors.py",
        "/api_federation.py",
    ),
    "uvicorn": ("cli/serving.py", "http/connections.py", "http/exchange.py", "http/web_sockets.py"),
    "typer": ("cli/", "/cli.py", "/cli_verdicts.py", "/cli_users.py", "/cli_federation.py", "/cli_datasets.py"),
    "rich": (
        "cli/",
        "/tables.py",
        "/cli.py",
        "/cli_verdicts.py",
        "/cli_users.py",
        "/cli_federation.py",
        "/cli_datasets.py",
    ),
    "sqlalchemy": (
        "store/",
        "/store.py",
        "detection/store_hours.py",
        "detection/store_tallies.py",
        "access/store_users.py",
        "alerts/store_notices.py",
        "alerts/store_tables.py",
        "access/store_factors.py",
        "access/store_factor_tables.py",
        "access/store_federation.py",
        "privacy/store_keys.py",
        "jobs/service_queue.py",
    ),
    "zxcvbn": ("access/service_users.py",),
    "authlib": ("access/service_oidc.py",),
    "signxml": ("access/rules_saml.py",),
    "lxml": ("access/rules_saml.py",),
    "ldap3": ("access/service_ldap.py",),
    "dbos": ("jobs/service_queue.py",),
    "alembic": ("store/migrations/",),
    "apprise": ("alerts/service_channels.py",),
    "prometheus_client": ("monitoring/metrics/",),
    "psutil": ("metrics/sources_host.py",),
    "pynvml": ("metrics/sources_host.py",),
    "onnxruntime": ("detectors/runtime.py", "detectors/optimise.py"),
    "onnx": ("detectors/optimise.py",),
    "openvino": ("platforms/service_openvino.py",),
    "playwright": ("platforms/service_browser.py",),
    "cv2": ("inputs/", "conditions/pictures.py", "conditions/encodings.py"),
    "PIL": ("inputs/",),
    "av": ("inputs/", "conditions/encodings.py"),
}
# The outer edges, where a defect is logged and everything else goes on.
OUTER_EDGES = {"core/loops.py"}
MOST_LINES_A_FILE = 500
MOST_LINES_A_FUNCTION = 60


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the folder (or top file) and the file of every import of our own."""
    for module in imports(path):
        parts = module.split(".")
        if (
            parts[0] == "discern"
            and len(parts) > 1
            and (SOURCE / parts[1]).exists() | (SOURCE / f"{parts[1]}.py").exists()
        ):
            yield parts[1], parts[2] if len(parts) > 2 else ""


def folder_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def feature_of(parts: tuple[str, ...]) -> str | None:
    """Return the feature, or the feature inside a feature, that the parts of a path or a module name lie in."""
    inner = "/".join(parts[:2])
    return inner if inner in SUB_FEATURES else parts[0] if parts[0] in FEATURES else None


def test_imports_point_one_way() -> None:
    wrong: list[str] = []
    for path in FILES:
        folder = folder_of(path)
        for other, _ in own_imports(path):
            if folder in {"settings", "settings_table", "__init__"}:
                allowed = other == "core" or (folder, other) == ("settings", "settings_table")
            elif other == "settings":  # only the composition root hands settings out
                allowed = folder.startswith("app") or RANKS[folder] > RANKS["app"]
            else:
                allowed = other == folder or {other, folder} <= FEATURES or RANKS[other] < RANKS[folder]
            if not allowed:
                wrong.append(f"{name(path)} imports upward from {other}")
    assert wrong == []


def test_features_see_only_types_and_ports_of_each_other_and_their_files_point_one_way() -> None:
    wrong: list[str] = []
    for path in (path for path in FILES if folder_of(path) in FEATURES and path.stem != "__init__"):
        parts_of_it = path.relative_to(SOURCE).parts
        folder = feature_of(parts_of_it)
        assert folder is not None
        # A folder inside a feature stands where its name does.
        part = Path(parts_of_it[folder.count("/") + 1]).stem.split("_")[0]
        assert part in PARTS, f"{name(path)}: say in PARTS where it stands"
        for module in (module for module in imports(path) if module.startswith("discern.")):
            parts = module.split(".")[1:]
            other = feature_of(tuple(parts))
            if other is None:
                continue
            file = (parts[other.count("/") + 1 :] or [""])[0]
            inside = folder.startswith(f"{other}/")
            allowed = file.split("_")[0] in OF_THE_PARENT if inside else file in {"types", "ports"}
            if other != folder and not allowed:
                wrong.append(f"{name(path)} reaches into {other}/{file}")
            if other == folder and PARTS[file.split("_")[0]] > PARTS[part]:
                wrong.append(f"{name(path)} imports upward from {file}")
    assert wrong == []


def test_there_are_no_import_loops() -> None:
    graph: dict[str, set[str]] = {}
    modules = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in FILES}
    for module, path in modules.items():
        graph[module] = {
            candidate
            for imported in imports(path)
            for candidate in (imported, imported.rpartition(".")[0])
            if candidate in modules
        }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for needed in sorted(graph[module]):
                visit(needed, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_a_framework_stays_in_the_files_that_own_it() -> None:
    wrong: list[str] = []
    for path in FILES:
        place = "/" + name(path)
        for module in imports(path):
            owners = OWNERS.get(module.split(".")[0])
            owned = owners is None or any(place.startswith(f"/{owner}") or place.endswith(owner) for owner in owners)
            if not owned:
                wrong.append(f"{name(path)} imports {module}")
    assert wrong == []


def test_only_the_settings_read_the_environment() -> None:
    # Vetting hands one variable on to its child, which gets no other.
    # MLflow has no other way to turn its telemetry off before it is imported.
    allowed = {"settings.py", "detectors/vetting.py", "evaluation/service_mlflow.py"}
    for path in FILES:
        reads = {"environ", "getenv"} & {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        assert not reads or name(path) in allowed, f"{name(path)} reads the environment"


def test_files_and_functions_stay_small() -> None:
    wrong: list[str] = []
    for path in FILES:
        lines = len(path.read_text().splitlines())
        if lines > MOST_LINES_A_FILE:
            wrong.append(f"{name(path)} has {lines} lines and wants to be two files")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_LINES_A_FUNCTION:
                    wrong.append(f"{name(path)}: {node.name} has {length} lines")
    assert wrong == []


def test_no_module_holds_an_app_an_engine_or_settings() -> None:
    banned = {"create_app", "build_services", "load_settings", "create_engine", "Database", "FastAPI"}
    for path in FILES:
        for statement in tree(path).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Call):
                called = statement.value.func
                assert not (isinstance(called, ast.Name) and called.id in banned), f"{name(path)}:{statement.lineno}"


def test_every_exception_is_caught_by_name() -> None:
    for path in (path for path in FILES if name(path) not in OUTER_EDGES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
                last = node.body[-1]
                passes_on = isinstance(last, ast.Raise) and last.exc is None
                assert not broad or passes_on, f"{name(path)}:{node.lineno} swallows everything"


def test_names_say_what_a_file_is_for() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert not [name(path) for path in FILES if path.stem in vague]


def test_every_module_says_what_it_is_for() -> None:
    for path in FILES:
        assert ast.get_docstring(tree(path)), name(path)


def test_the_repository_names_no_machine_and_no_package_index() -> None:
    suffixes = {".py", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".json", ""}
    skipped = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", "site", ".hypothesis"}
    for path in ROOT.rglob("*"):
        if path.is_file() and path.suffix in suffixes and not skipped & set(path.relative_to(ROOT).parts):
            text = path.read_text(errors="ignore")
            for banned in ("/" + "work/", "file://" + "/opt", "index-" + "url"):
                assert banned not in text, f"{path.relative_to(ROOT)} mentions {banned}"
