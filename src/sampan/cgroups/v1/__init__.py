"""The controllers of cgroup v1. Source: Documentation/admin-guide/cgroup-v1."""
