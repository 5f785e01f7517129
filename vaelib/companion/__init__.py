"""The companion to the papers: what they state, notebooks that measure it, figures, and a report."""
