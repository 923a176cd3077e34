"""The documentation site: what MkDocs asks of us while it builds (`mkdocs.yml`, `make docs`)."""
