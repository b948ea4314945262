"""`kubectl backendhealth`: one file a verb, on the user's own kubeconfig and with the user's own rights."""
