# The operator and the command line as an image.
#   docker build -t backendhealth . && docker run --rm -i backendhealth check -f - < resources.yaml
# BASE: any image with Python 3.11 or newer, its venv module and CA certificates; the same one builds and runs.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
# The machinery that builds is pinned as well, and stays in this stage.
COPY requirements-build.lock requirements.lock /src/
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /src/requirements-build.lock \
 && /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --require-hashes -r /src/requirements.lock -w /wheels
COPY pyproject.toml README.md /src/
COPY operator /src/operator
RUN /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps -w /wheels /src \
 && python3 -m venv --without-pip /opt/backendhealth \
 && /opt/build/bin/pip --python /opt/backendhealth/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="backendhealth" \
      org.opencontainers.image.description="Probes a platform's backends at protocol depth and says what is broken and why" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# What the base brings along to install packages with is not needed any more.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/lib/python3/dist-packages/pip* /usr/local/bin/pip* \
    /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /opt/backendhealth /opt/backendhealth
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/backendhealth/bin:$PATH
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opt/backendhealth/bin/backendhealth"]
