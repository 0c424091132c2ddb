"""Verbs about OCI bundles."""
