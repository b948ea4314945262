"""The only room that knows the Kubernetes client and kopf: watch, write status, Leases, Secrets, Events, metrics."""
