"""The client in process: an engine of this very process, in one namespace."""
