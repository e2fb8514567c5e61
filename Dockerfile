# One image for all roles: docker build -t innkeeper/innkeeper:0.1.0 .
#
# Everything that is installed is locked by hash. The wheel is built from this checkout, by a build backend that is
# locked too, and without a network.

FROM python:3.11-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# First what changes least: a change of the code installs nothing anew.
COPY requirements/image.txt requirements/image-build.txt requirements/
RUN python -m venv --without-pip /opt/innkeeper \
    && python -m pip --python /opt/innkeeper/bin/python install --no-cache-dir --only-binary :all: \
       --require-hashes -r requirements/image.txt \
    && python -m pip install --no-cache-dir --require-hashes -r requirements/image-build.txt

COPY pyproject.toml README.md LICENSE ./
COPY engine engine
COPY apps apps
COPY executor executor
COPY operator operator
COPY gateway gateway
COPY cli cli
RUN python -m pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python -m pip --python /opt/innkeeper/bin/python install --no-cache-dir --no-index --no-deps \
       --find-links /wheels innkeeper-server \
    && /opt/innkeeper/bin/innkeeper --version


FROM python:3.11-slim
LABEL org.opencontainers.image.title="Innkeeper" \
      org.opencontainers.image.description="Inngest-compatible durable functions on Kubernetes" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.source="https://github.com/innkeeper-dev/innkeeper" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/innkeeper /opt/innkeeper
# The file system may be read-only; the log leaves line by line.
ENV PATH=/opt/innkeeper/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
# gateway, executor (probes), operator (probes and metrics)
EXPOSE 8288 8289 8290
ENTRYPOINT ["innkeeper"]
CMD ["--help"]
