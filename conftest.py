"""How ``pytest --nbval`` compares a notebook with its committed outputs."""


def pytest_collectstart(collector):
    """Leave warnings and progress out: they go to stderr, and say nothing about a result."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)


collect_ignore = ["vaelib/companion/preloaded.py"]  # it changes the environment of the process that imports it
