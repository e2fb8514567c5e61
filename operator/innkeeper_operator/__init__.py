"""Makes the cluster so: custom resources in, registry and statuses out."""
