"""Every program of the README runs, as printed but for the port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Node

FOLDER = Path(__file__).parents[1]
PROGRAMS = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
SAYS = [
    "nobody serves echo\n",
    "b'Hello World!'\necho says: nothing to echo\n",
    "first got Hello World!\nsecond got Hello World!\n",
    "b'Hello World!'\n",
    "MESSAGE 0\nMESSAGE 1\nMESSAGE 2\n",
    "b'Hello World!'\n",
]


@pytest.mark.node
@pytest.mark.parametrize("program, says", list(zip(PROGRAMS, SAYS, strict=True)), ids=range(len(SAYS)))
def test_a_program_of_the_readme(program: str, says: str, node: Node) -> None:
    assert "55555" in program
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program.replace("55555", str(node.port))],
        env=os.environ | {"PYTHONPATH": str(FOLDER / "src")},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert run.returncode == 0 and run.stderr == "", run.stderr
    assert sorted(run.stdout.splitlines()) == sorted(says.splitlines())
