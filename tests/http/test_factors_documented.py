"""What the documentation types, typed at a server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from discern.app import build_services
from discern.settings import load_settings
from tests.cli.test_up import server

pytestmark = pytest.mark.system
PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "access.md"


def test_the_lines_about_second_factors_do_what_they_say(home: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    (section,) = re.findall(r"\n## Second factors\n(.*?)\n## ", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    blocks = [one for one in re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL) if "ask " in one]
    # Whoever pastes a block whole has put the code into its first line before.
    assert [("CODE=" in one, one.startswith("CODE=000000\n")) for one in blocks] == [
        (False, False),
        *[(True, True)] * 2,
    ]
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.users.create("default", "ann@example.org", "several words of ann", role="analyst")
    services.close()
    # The app, whose second code is the next one already: a clock may be that far off.
    show = (
        f"$({sys.executable} -c 'import pyotp, sys, time; print(pyotp.TOTP(sys.argv[1]).at(time.time() + %d))' $SECRET)"
    )
    script = "".join(blocks)
    for seconds in (0, 30):
        script = script.replace("CODE=000000", f"CODE={show % seconds}", 1)
    with server(home) as (_, _, port):
        script = "set -eo pipefail\n" + script.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        done = subprocess.run(
            ["bash", "-c", script], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count('"codes":['), '"name":"my phone"' in done.stdout) == (1, True), done.stdout
    assert '"recovery_codes_left":10' in done.stdout
