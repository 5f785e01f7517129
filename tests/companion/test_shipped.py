"""What is committed of the papers' scale: runs that draw the committed figures anywhere, without data or training."""

import json
import os
import subprocess
import sys

import pandas as pd

from vaelib import paths

SHIPPED = paths.project() / "figures" / "paper"
NOTEBOOKS = ["02_alpha_convergence", "04_reconstruction"]


def test_committed_runs_draw_the_committed_figures_without_data(tmp_path):
    names = ("RUNS", "DATA", "FIGURES", "CACHE")
    environment = os.environ | {f"VAELIB_{name}": str(tmp_path / name.lower()) for name in names}

    def vaelib(*arguments):
        command = [sys.executable, "-c", "from vaelib.cli import main; main()", *arguments]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    vaelib("runs", "import", str(SHIPPED / "runs.tar.gz"))
    vaelib("figures", "--profile", "paper", "--stored", *(w for notebook in NOTEBOOKS for w in ("--only", notebook)))
    for notebook in NOTEBOOKS:
        drawn, committed = tmp_path / "figures" / "paper" / notebook, SHIPPED / notebook
        tables = sorted(drawn.glob("*.csv"))
        assert tables
        for table in tables:
            pd.testing.assert_frame_equal(pd.read_csv(table), pd.read_csv(committed / table.name))
            assert table.with_suffix(".png").exists()
        found, kept = (
            {json.dumps(record, sort_keys=True) for record in json.loads((folder / "claims.json").read_text())}
            for folder in (drawn, committed)
        )
        assert found
        assert found <= kept
