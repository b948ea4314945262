# The command line as an image: docker build -t backendhealth . && docker run --rm -i backendhealth check -f - < resources.yaml
# BASE: any image with python3 (3.11 or newer), its venv module and CA certificates.
ARG BASE=docker.io/library/python:3.13-slim-bookworm
FROM ${BASE} AS build
COPY pyproject.toml README.md /src/
COPY operator /src/operator
RUN python3 -m venv /opt/backendhealth \
 && /opt/backendhealth/bin/pip install --no-cache-dir /src \
 && /opt/backendhealth/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
COPY --from=build /opt/backendhealth /opt/backendhealth
USER 65532:65532
ENTRYPOINT ["/opt/backendhealth/bin/backendhealth"]
