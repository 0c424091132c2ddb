"""The groups of rows: each module has `rows(stage)`, which measures and yields them."""
