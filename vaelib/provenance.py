"""Where results come from."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def commit() -> str | None:
    """The git commit that this package is run from, marked where files were changed since; None outside a checkout."""
    try:
        text = subprocess.run(
            ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return text.stdout.strip()
