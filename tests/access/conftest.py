"""An installation with identity providers of the test's choosing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from discern.app import build_services
from discern.app_http import create_app
from discern.settings import load_settings
from tests.access.federated import PUBLIC_URL, Installation

Furnish = Callable[..., Installation]


@pytest.fixture
def furnish(home: Path) -> Iterator[Furnish]:
    """Opens an installation over the home folder with a `sign-in.toml`, as often as it is called."""
    opened = ExitStack()

    def open_one(content: str, **environment: str) -> Installation:
        (home / "sign-in.toml").write_text(content)
        named = {"DISCERN_HOME": str(home), "DISCERN_PUBLIC_URL": PUBLIC_URL} | environment
        services = build_services(load_settings(named))
        services.open()
        opened.callback(services.close)
        # Entered, or each of its requests would have an event loop of its own.
        browser = TestClient(create_app(services), base_url=PUBLIC_URL, follow_redirects=False)
        return Installation(services, opened.enter_context(browser))

    with opened:
        yield open_one
