"""Speed measurements: paired ratios taken in one run, printed as a table and as JSON."""
