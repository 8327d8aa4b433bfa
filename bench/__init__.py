"""greenpump beside its peers, on the same work: `python -m bench --help`, and README.md."""
