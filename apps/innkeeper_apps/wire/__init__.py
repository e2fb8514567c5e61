"""The SDK protocol: JSON, signatures, requests and responses. Nothing here does I/O."""
