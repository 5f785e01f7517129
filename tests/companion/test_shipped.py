"""What is committed of the papers' scale: runs that draw the committed figures anywhere, without data or training."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from vaelib import paths

SHIPPED = paths.project() / "figures" / "paper"


@pytest.mark.parametrize("notebook", ["02_alpha_convergence", "04_reconstruction"])
def test_committed_runs_draw_the_committed_figures_without_data(notebook, tmp_path):
    folders = {name: str(tmp_path / name) for name in ("VAELIB_RUNS", "VAELIB_DATA", "VAELIB_FIGURES")}

    def vaelib(*arguments):
        command = [sys.executable, "-c", "from vaelib.cli import main; main()", *arguments]
        subprocess.run(command, env=os.environ | folders, check=True, capture_output=True)

    vaelib("runs", "import", str(SHIPPED / "runs.tar.gz"))
    vaelib("figures", "--profile", "paper", "--stored", "--only", notebook)
    drawn = tmp_path / "VAELIB_FIGURES" / "paper" / notebook
    tables = sorted(drawn.glob("*.csv"))
    assert tables
    for table in tables:
        pd.testing.assert_frame_equal(pd.read_csv(table), pd.read_csv(SHIPPED / notebook / table.name))
        assert table.with_suffix(".png").exists()
    records, committed = (
        {json.dumps(record, sort_keys=True) for record in json.loads((folder / "claims.json").read_text())}
        for folder in (drawn, SHIPPED / notebook)
    )
    assert records
    assert records <= committed
