"""The models that a user's YAML is checked against, and that the CRDs and the reference are generated from."""
