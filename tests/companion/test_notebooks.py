import os
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import zmq
from nbformat.v4 import new_code_cell, new_notebook

from vaelib.companion import kernels, notebooks, processes


@pytest.fixture
def run(tmp_path):
    """Execute a notebook of one cell: how that went, and the outputs of the cell."""

    def run(source, aside=False):
        file, copy = tmp_path / "01_test.ipynb", tmp_path / "copy" / "01_test.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(source)]), file)
        work = notebooks.Work("01_test", file, {})
        (outcome,) = notebooks.run_all([work], copy.parent, 1) if aside else [kernels.run(file, {}, copy)]
        return outcome, nbformat.read(copy, as_version=4).cells[-1].outputs if copy.exists() else []

    return run


@pytest.mark.parametrize(("files", "folder"), [(True, "short"), (True, "long" * 20), (False, "short")])
def test_a_kernel_talks_through_files_or_ports_without_a_word(run, monkeypatch, capfd, tmp_path, files, folder):
    """Over ports it warned on the terminal that nothing is encrypted; files that it talks through have short names."""
    with tempfile.TemporaryDirectory() as place, monkeypatch.context() as patch:
        (temporary := Path(place, folder)).mkdir()
        patch.setattr(zmq, "has", lambda what, has=zmq.has: has(what) and (files or what != "ipc"))
        patch.setattr(kernels.tempfile, "gettempdir", lambda: str(temporary))
        assert (kernels.Kernel().transport == "ipc") == (files and folder == "short")
        outcome, outputs = run("import os, torch; print(torch.get_num_threads(), os.getcwd())")
        assert not list(temporary.iterdir()), "what it talked through is gone"
    assert outcome.error is None
    assert outputs[0].text == f"1 {tmp_path}\n"
    assert capfd.readouterr().err == ""


def test_a_forked_kernel_shows_tables_as_any_other(run):
    """What is imported before there is a kernel must not take a terminal's ways: nbval compares what is shown."""
    source = "import pandas as pd; pd.DataFrame({f'a column with a long name {k}': ['a long value'] for k in range(9)})"
    (_, (forked,)), (_, (own,)) = run(source, aside=True), run(source)
    assert forked.data == own.data
    assert "..." not in own.data["text/plain"]


def test_a_figure_is_shown_once(run, tmp_path):
    source = """import pandas as pd
from pathlib import Path
from vaelib.companion import figures, plots
table = pd.DataFrame({"x": [1, 2], "y": [1, 2]})
figures.show(plots.curves.means, table, "a", folder=Path("."), caption="A.", x="x", y="y")"""
    outcome, outputs = run(source, aside=True)
    assert outcome.error is None
    assert (tmp_path / "a.png").exists()
    picture, caption = outputs
    assert set(picture.data) == {"image/png", "text/plain"}
    assert picture.metadata["image/png"]["alt"] == "A."
    assert caption.data["text/markdown"] == "**Figure 1.** A."


@pytest.mark.parametrize(("failures", "error"), [(2, None), (3, "OSError: the port is taken")])
def test_a_kernel_that_does_not_start_is_tried_again(run, monkeypatch, failures, error):
    start, tries = kernels.Kernel.start_kernel, []

    async def clash(self, **options):
        tries.append(1)
        if len(tries) <= failures:
            raise OSError("the port is taken")
        await start(self, **options)

    monkeypatch.setattr(kernels.Kernel, "start_kernel", clash)
    assert run("1")[0].error == error
    assert len(tries) == 3


def test_in_the_place_of_a_forked_kernel_that_does_not_come_up_there_is_one_of_its_own(tmp_path):
    file, copy = tmp_path / "01_test.ipynb", tmp_path / "copy.ipynb"
    cell = "import multiprocessing; print(multiprocessing.parent_process())"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), file)
    process = processes.start(_with_a_dead_kernel, file, copy)
    process.join()
    assert process.exitcode == 0
    assert nbformat.read(copy, as_version=4).cells[-1].outputs[0].text == "None\n"


def test_a_forked_kernel_has_one_thread_in_every_library(tmp_path):
    """One had been imported before it was told so: two kernels at once took four threads on two cores."""
    file, copy = tmp_path / "01_test.ipynb", tmp_path / "copy.ipynb"
    cell = (
        "import torch\nfrom threadpoolctl import threadpool_info\n{pool['num_threads'] for pool in threadpool_info()}"
    )
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), file)
    process = processes.start(_with_a_forked_kernel, file, copy)
    process.join()
    assert nbformat.read(copy, as_version=4).cells[-1].outputs[0].data["text/plain"] == "{1}"


def _with_a_forked_kernel(file, copy):
    with kernels.waiting() as kernel:
        kernels.run(file, {}, copy, kernel)


def _with_a_dead_kernel(file, copy):
    with kernels.waiting() as kernel:
        kernel.kill()
        assert kernels.run(file, {}, copy, kernel).error is None


def test_a_kernel_that_dies_in_a_cell_is_not_started_again(run, tmp_path):
    outcome, _ = run("import os; open('started', 'a').write('x'); os._exit(1)", aside=True)
    assert outcome.error.startswith("DeadKernelError: ")
    assert (tmp_path / "started").read_text() == "x"


def test_a_kernel_ends_with_the_process_that_wanted_it(tmp_path):
    cell = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    file = tmp_path / "01_test.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), file)
    _, sender = processes.CONTEXT.Pipe(duplex=False)
    process = processes.start(notebooks._execute, sender, file, {}, tmp_path / "copy.ipynb", dict(os.environ))
    _wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    process.kill()
    process.join()
    _wait(lambda: not psutil.pid_exists(pid))


def _wait(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it took more than 30 seconds")


def test_a_kept_notebook_is_folded_where_code_teaches_nothing(tmp_path):
    """JupyterLab's word for it is made of the tag, which tools and readers see."""
    folded = new_code_cell("1", metadata={"tags": ["hide-input"], "papermill": {"duration": 1.0}})
    plain = new_code_cell("2", metadata={"jupyter": {"source_hidden": True}})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=[folded, plain], metadata=kernel), tmp_path / "a")
    notebooks.keep(tmp_path / "a", tmp_path / "b.ipynb")
    cells = nbformat.read(tmp_path / "b.ipynb", as_version=4).cells
    assert [cell.metadata for cell in cells] == [{"tags": ["hide-input"], "jupyter": {"source_hidden": True}}, {}]
