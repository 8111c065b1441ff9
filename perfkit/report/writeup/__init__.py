"""Lab reports from runs: pure builders of text, tables and figures."""
