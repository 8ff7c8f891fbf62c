"""A sign-in in a real browser, over two sites, with the cookies as it keeps them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.access.federated import running
from tests.cli.test_up import server
from tests.ports import free_port

BROWSER = shutil.which("chromium")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed: apt-get install chromium"),
]


def test_a_browser_signs_in_and_its_session_is_there_when_it_is_led_on(home: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    port = free_port()
    with running() as provider:
        # Two names are two sites to a browser: the way back is one that another site began.
        provider.issuer = provider.issuer.replace("127.0.0.1", "localhost")
        (home / "sign-in.toml").write_text(
            f"""
[oidc.company]
issuer = "{provider.issuer}"
client_id = "discern"
[[oidc.company.grant]]
group = "reviewers"
role = "reviewer"
"""
        )
        named = {"DISCERN_PORT": str(port), "DISCERN_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        with server(home, **named):
            start = f"http://127.0.0.1:{port}/v1/sign-in/company?next=/v1/session"
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
            command = [BROWSER, *options, "--virtual-time-budget=20000", "--dump-dom", start]
            shown = ""
            for _ in range(5):
                # On a busy machine Chromium may print before it has a page; then nothing at all is printed.
                shown = shown or subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    assert '"role":"reviewer"' in shown, shown
    assert '"csrf_token"' in shown
