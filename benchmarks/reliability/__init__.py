"""A campaign against accidents: damaged files, kills, tampering, writers side by side, full disks, hostile clients.

One file an accident; `python -m benchmarks.reliability --out DIR` runs them, `docs/reliability.md` has what came of it.
Commands are run as processes of their own, as users run them.
"""
