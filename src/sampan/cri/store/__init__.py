"""What the CRI knows of pods and containers: records in the database, states in memory and files.

names     reservations: one holder for each name, and retries that join who is at it
records   Pod and Container, and their rows
state     small JSON files that a reboot may lose
"""

from __future__ import annotations
