"""What the API is, for machines: an OpenAPI 3.1 document of all that the gateway serves."""
