"""The paper's experiments: settings, runs, results, tables, figures."""
