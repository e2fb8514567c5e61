"""`python -m innkeeper_gateway.openapi`: writes the document as `docs/reference/openapi.json` has it."""

import sys

from fastapi import FastAPI

from innkeeper_gateway.app import ROUTERS
from innkeeper_gateway.openapi.document import make_document
from innkeeper_gateway.openapi.route import written


def main() -> None:
    """Write the document of all routes to the standard output."""
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for router in ROUTERS:
        api.include_router(router)
    sys.stdout.buffer.write(written(make_document(api.routes)))


if __name__ == "__main__":
    main()
